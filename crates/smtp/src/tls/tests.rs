use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use std::fs;

/// A certification authority, a server and two clients, as PEM files.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        let key = KeyPair::generate().unwrap();
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let mut params = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, format!("a {name}"));
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let stranger = rcgen::generate_simple_self_signed(vec!["stranger.example".to_owned()]).unwrap();
        write("stranger.pem", stranger.cert.pem());
        write("stranger.key", stranger.signing_key.serialize_pem());
        Files { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn server(&self) -> ServerTls {
        ServerTls { certificate: self.path("server.pem"), key: Some(self.path("server.key")), ..ServerTls::default() }
    }

    /// A client that trusts the authority, and shows the certificate of that name if there is one.
    pub fn client(&self, certificate: Option<&str>) -> ClientConfig {
        let (provider, _) = provider("", "", "").unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&self.path("ca.pem"), &self.bytes("ca.pem")).unwrap());
        match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = certificates(&self.path(name), &self.bytes(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

#[test]
fn options_become_a_configuration() {
    let files = Files::new();
    let made = files.server().build().unwrap();
    assert!(made.warnings.is_empty());
    assert!(made.config.ticketer.enabled());
    let odd = ServerTls {
        protocols: "+ALL:-TLSv1.3".to_owned(),
        ciphers: "HIGH:RC4-SHA:!aNULL".to_owned(),
        curves: "prime256v1".to_owned(),
        ..files.server()
    };
    assert_eq!(odd.build().unwrap().warnings, ["tls_ciphers: 'RC4-SHA' selects no suite that is available"]);
    // Key and certificate in one file.
    let both =
        [files.path("server.pem"), files.path("server.key")].map(|path| fs::read_to_string(path).unwrap()).concat();
    fs::write(files.path("both.pem"), both).unwrap();
    let one = ServerTls { certificate: files.path("both.pem"), key: None, ..files.server() };
    assert!(one.build().is_ok());
    // Who is verified must be verified each time.
    let verifying = ServerTls { client_ca: Some(files.path("ca.pem")), ..files.server() };
    assert!(!verifying.build().unwrap().config.ticketer.enabled());
}

#[test]
fn errors_say_what_and_where() {
    let files = Files::new();
    let error = |change: fn(&mut ServerTls, &Files)| {
        let mut options = files.server();
        change(&mut options, &files);
        options.build().unwrap_err().to_string()
    };
    assert!(error(|tls, _| tls.certificate = "/nowhere.pem".into()).contains("/nowhere.pem"));
    assert!(error(|tls, files| tls.certificate = files.path("server.key")).contains("no certificate in"));
    assert!(error(|tls, _| tls.key = None).contains("a private key"));
    assert!(error(|tls, files| tls.key = Some(files.path("client.key"))).contains("server.pem"));
    assert!(error(|tls, _| tls.protocols = "TLSv1.1".into()).contains("TLSv1.1"));
    assert!(error(|tls, _| tls.curves = "x".into()).contains("'x'"));
    assert!(error(|tls, _| tls.require_client_certificate = true).contains("tls_client_ca"));
    assert!(error(|tls, _| (tls.ciphers, tls.ciphersuites_13) = ("x".into(), "y".into())).contains("no cipher suite"));
}
