//! Authorities and the certificates that they sign, created for each test.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate and its key.
pub(super) struct Certificate {
    pub(super) pem: String,
    pub(super) key: KeyPair,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Returns a server certificate for names and addresses.
    pub(super) fn server(&self, names: &[&str]) -> Certificate {
        self.sign(
            names,
            (1975, 4096),
            ExtendedKeyUsagePurpose::ServerAuth,
            KeyPair::generate().unwrap(),
        )
    }

    /// Returns the same, valid from the first day of one year to the first day of another.
    pub(super) fn server_between(&self, years: (i32, i32)) -> Certificate {
        self.sign(
            &["127.0.0.1"],
            years,
            ExtendedKeyUsagePurpose::ServerAuth,
            KeyPair::generate().unwrap(),
        )
    }

    /// Returns a client certificate.
    pub(super) fn client(&self, key: KeyPair) -> Certificate {
        self.sign(&[], (1975, 4096), ExtendedKeyUsagePurpose::ClientAuth, key)
    }

    fn sign(
        &self,
        names: &[&str],
        years: (i32, i32),
        purpose: ExtendedKeyUsagePurpose,
        key: KeyPair,
    ) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        Certificate { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key }
    }
}
