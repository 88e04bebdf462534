//! The error document (CNI spec 1.1.0, "Error").

/// The codes we answer with. `msg` is fixed for each; `details` names the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Code {
    /// The configuration's version is not ours, or too old for the verb.
    Version = 1,
    /// A key or value that we refuse to ignore.
    Unsupported = 2,
    /// `CNI_*` missing or malformed.
    Environment = 4,
    /// stdin, stdout or a file cannot be read or written.
    Io = 5,
    /// Not JSON, or not the shape.
    Decode = 6,
    /// JSON is fine, its meaning is not.
    Config = 7,
    /// `CNI_NETNS` is the plugin's own namespace.
    Netns = 8,
    /// A later try may succeed.
    TryAgain = 11,
    /// STATUS: an ADD would not be served.
    NotAvailable = 50,
    /// No free address.
    Exhausted = 100,
    /// The requested address cannot be given.
    Requested = 101,
    /// CHECK: nothing, or not everything, is recorded.
    NotRecorded = 102,
    /// CHECK: the record differs from prevResult.
    Differs = 103,
    /// What is stored cannot be read by this version.
    Stored = 104,
    /// The API server refuses, or does not know the resource.
    Api = 105,
    /// A fault of ours.
    Internal = 999,
}

impl Code {
    /// All codes, for the documents' test.
    pub const ALL: &'static [Self] = &[
        Self::Version,
        Self::Unsupported,
        Self::Environment,
        Self::Io,
        Self::Decode,
        Self::Config,
        Self::Netns,
        Self::TryAgain,
        Self::NotAvailable,
        Self::Exhausted,
        Self::Requested,
        Self::NotRecorded,
        Self::Differs,
        Self::Stored,
        Self::Api,
        Self::Internal,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The fixed message.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Version => "incompatible CNI versions",
            Self::Unsupported => "unsupported field in network configuration",
            Self::Environment => "invalid environment variables",
            Self::Io => "input/output failure",
            Self::Decode => "failed to decode",
            Self::Config => "invalid network configuration",
            Self::Netns => "plugin's netns and netns from CNI_NETNS should not be the same",
            Self::TryAgain => "try again later",
            Self::NotAvailable => "plugin not available",
            Self::Exhausted => "no free address",
            Self::Requested => "requested address not available",
            Self::NotRecorded => "no address recorded for this attachment",
            Self::Differs => "recorded address differs from prevResult",
            Self::Stored => "stored record cannot be used",
            Self::Api => "refused by the API server",
            Self::Internal => "internal error",
        }
    }
}

/// One failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// Which code.
    pub code: Code,
    /// Fixed per code, but where the spec asks for names in the message.
    pub msg: String,
    /// What was expected, the value last.
    pub details: String,
}

impl CniError {
    /// An error with the code's own message.
    #[must_use]
    pub fn new(code: Code, details: impl Into<String>) -> Self {
        Self { code, msg: code.message().to_owned(), details: details.into() }
    }

    /// The spec wants names, or key and value, in the message itself.
    #[must_use]
    pub fn with_message(code: Code, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into() }
    }

    /// Appends advice to the details.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<impl AsRef<str>>) -> Self {
        if let Some(hint) = hint {
            self.details = format!("{}; hint: {}", self.details, hint.as_ref());
        }
        self
    }

    /// The document for stdout.
    #[must_use]
    pub fn encode(&self, version: super::Version) -> Vec<u8> {
        let mut document = serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            document["details"] = self.details.clone().into();
        }
        let mut bytes = document.to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

impl std::fmt::Display for CniError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {}): {}", self.msg, self.code.number(), self.details)
    }
}

impl std::error::Error for CniError {}
