//! TLS to the API server: the trusted authorities, the client certificate, and the messages for
//! failures.
//!
//! It supports TLS 1.3 and 1.2. It does not resume sessions, because the process does not live long
//! enough.

use super::kubeconfig::{Kubeconfig, Pem, Trust};
use crate::small_file::read_small;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct,
    RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The files in which distributions keep the authorities that the system trusts. The first one that
/// can be read is used, and only if the kubeconfig names no authority.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A TLS configuration, and the source of its authorities.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    /// The place of the authorities, for messages.
    pub(crate) authorities: String,
}

impl Tls {
    /// Builds the TLS configuration for a kubeconfig.
    ///
    /// # Errors
    /// Returns what is wrong with a certificate or key, and its place.
    pub(crate) fn new(kubeconfig: &Kubeconfig) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        let (builder, authorities) = match &kubeconfig.trust {
            Trust::Authorities(pem) => {
                (builder.with_root_certificates(authorities(pem)?), pem.place.clone())
            }
            Trust::System => {
                let (roots, path) = system_authorities()?;
                (builder.with_root_certificates(roots), path.to_owned())
            }
            Trust::Anybody => {
                let verifier = Arc::new(TrustAnybody(provider));
                (
                    builder.dangerous().with_custom_certificate_verifier(verifier),
                    "insecure-skip-tls-verify".to_owned(),
                )
            }
        };
        let mut config = with_certificate(builder, kubeconfig.certificate.as_ref())?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), authorities })
    }
}

fn authorities(pem: &Pem) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = certificates(pem)?;
    match roots.add_parsable_certificates(found) {
        (0, _) => Err(format!(
            "{}: expected an X.509 certificate of an authority in PEM, found none",
            pem.place
        )),
        _ => Ok(roots),
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(format!("{}: expected certificates in PEM, found none", pem.place)),
    }
}

fn system_authorities() -> Result<(RootCertStore, &'static str), String> {
    for path in SYSTEM_BUNDLES {
        if let Ok(bytes) = read_small(Path::new(path)) {
            let roots = authorities(&Pem { bytes, place: (*path).to_owned() })?;
            return Ok((roots, path));
        }
    }
    Err(format!(
        "the kubeconfig names no certificate-authority, and none of the system's files can be read: {}",
        SYSTEM_BUNDLES.join(", ")
    ))
}

fn with_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: Option<&(Pem, Pem)>,
) -> Result<ClientConfig, String> {
    let Some((chain, key)) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let expected = || {
        format!(
            "{}: expected an unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1), found none",
            key.place
        )
    };
    let parsed = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|_| expected())?;
    builder.with_client_auth_cert(certificates(chain)?, parsed).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!(
                "{}: expected the key of the certificate in {}, found the key of another one",
                key.place, chain.place
            )
        }
        _ => format!(
            "{}: expected an RSA, ECDSA or Ed25519 key and its certificate, found something else",
            key.place
        ),
    })
}

/// The verifier for `insecure-skip-tls-verify`. It accepts any certificate, if the server has the
/// key of it.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Describes a TLS failure and what to do about it. Also returns whether a retry may help.
pub(crate) fn explain(error: &rustls::Error, authorities: &str) -> (String, bool) {
    match error {
        rustls::Error::InvalidCertificate(reason) => (explain_certificate(reason, authorities), false),
        rustls::Error::AlertReceived(alert) if is_about_certificate(*alert) => {
            (format!("the server refuses our client certificate (alert {alert:?}); renew it or use a token"), false)
        }
        rustls::Error::AlertReceived(alert) => (format!("the server ended TLS with the alert {alert:?}"), true),
        rustls::Error::InvalidMessage(_) => {
            ("expected https, found an answer that is not TLS: something else listens there, or changes the connection on the way".to_owned(), false)
        }
        rustls::Error::PeerIncompatible(reason) => {
            (format!("the server offers no TLS version that this client supports (1.3, or 1.2 with ECDHE and AES-GCM or ChaCha20): {reason:?}"), false)
        }
        other => (format!("TLS failed: {other}"), true),
    }
}

/// Returns whether an alert means that the server refuses the client certificate. With TLS 1.3 it
/// arrives after the request was sent. The server has not read the request then.
pub(crate) fn is_about_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    [
        Alert::NoCertificate,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
        Alert::CertificateRequired,
    ]
    .contains(&alert)
}

fn explain_certificate(reason: &CertificateError, authorities: &str) -> String {
    use CertificateError as Reason;
    match reason {
        Reason::ExpiredContext { time, not_after } => {
            format!("the server's certificate expired at {}, and this machine's clock shows {}; renew the certificate or correct the clock", date(not_after), date(time))
        }
        Reason::NotValidYetContext { time, not_before } => format!(
            "the server's certificate is valid from {} on, and this machine's clock shows {}; correct the clock, or renew the certificate",
            date(not_before),
            date(time)
        ),
        Reason::UnknownIssuer | Reason::BadSignature => {
            format!(
                "the server's certificate is not from a trusted authority ({authorities}); put the cluster's authority into certificate-authority"
            )
        }
        Reason::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            format!(
                "the server's certificate is not for the name {}, but for {}; use one of these names in server or as tls-server-name",
                expected.to_str(),
                names.join(", ")
            )
        }
        Reason::InvalidPurposeContext { .. } | Reason::InvalidPurpose => {
            "the server's certificate does not have the extended key usage serverAuth; renew it with that usage".to_owned()
        }
        other => format!("the server's certificate cannot be used: {other}"),
    }
}

/// Returns the inner name of `DnsName("a")` or `IpAddress(1.2.3.4)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

fn date(time: &UnixTime) -> String {
    // humantime refuses later times, because RFC 3339 has only four digits for the year.
    const LAST: u64 = 253_402_300_799;
    let since = Duration::from_secs(time.as_secs().min(LAST));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}
