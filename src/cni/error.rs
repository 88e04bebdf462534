//! The error document of the protocol and its codes (CNI specification 1.1.0, "Error").

/// The error codes that the plugin uses. Each has a default `msg`, and `details` describes the
/// case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Code {
    /// The version of the configuration is not supported, or is too old for the verb.
    Version = 1,
    /// A key or value that must not be ignored, but is not supported.
    Unsupported = 2,
    /// A `CNI_*` variable is missing or malformed.
    Environment = 4,
    /// stdin, stdout or a file cannot be read or written.
    Io = 5,
    /// The text is not JSON, or not a document of the expected shape.
    Decode = 6,
    /// The JSON is valid, but its meaning is not.
    Config = 7,
    /// `CNI_NETNS` is the plugin's own namespace.
    Netns = 8,
    /// A retry may succeed.
    TryAgain = 11,
    /// The answer of STATUS if an ADD would not be served.
    NotAvailable = 50,
    /// There is no free address.
    Exhausted = 100,
    /// The requested address cannot be given out.
    Requested = 101,
    /// The answer of CHECK if a record is missing.
    NotRecorded = 102,
    /// The answer of CHECK if a record differs from prevResult.
    Differs = 103,
    /// This version cannot read what is stored.
    Stored = 104,
    /// The API server refuses the request, or does not know the resource.
    Api = 105,
    /// An internal error of the plugin.
    Internal = 999,
}

impl Code {
    /// All codes, for the test of the documents.
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

    /// Returns the number in the error document.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Returns the default message.
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

/// The error of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// The error code.
    pub code: Code,
    /// The message. It is fixed for each code, except where the specification asks for names in it.
    pub msg: String,
    /// What was expected, followed by the value.
    pub details: String,
}

impl CniError {
    /// Returns an error with the default message of the code.
    #[must_use]
    pub fn new(code: Code, details: impl Into<String>) -> Self {
        Self { code, msg: code.message().to_owned(), details: details.into() }
    }

    /// Returns an error with its own message. The specification sometimes asks for names, or for a
    /// key and a value, in the message itself.
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

    /// Returns the document for stdout.
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
