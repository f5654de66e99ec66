//! Where the database is, as its URL says it, and how to speak to it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::Failure;
use crate::error::StoreErrorKind;

/// A database: for messages, without its password.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<str>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How to reach a database.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) place: Place,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.place).finish()
    }
}

/// How far the server must prove who it is: what `libpq` calls `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Encrypted or not, whoever it is.
    None,
    /// By a certificate for the host's name, of an authority that is trusted.
    Certificate,
}

impl Address {
    /// Reads a URL, `postgresql://user:password@host/database?sslmode=verify-full`, or a text of
    /// `host=… dbname=…`.
    ///
    /// `sslmode` is one of `disable`, `prefer` (the default), `require`, `verify-ca` and `verify-full`,
    /// the last two meaning the same here; `sslrootcert` names a file of trusted authorities, in place of
    /// the machine's.
    pub(super) fn parse(url: &str, connect_timeout: Duration) -> Result<Self, Failure> {
        let refused = |problem: String| {
            let message = format!("the URL of the PostgreSQL database {problem}");
            Failure::Refused(StoreErrorKind::Unavailable, message)
        };
        let mut mode = None;
        let mut authorities = None;
        let plain = without(url, &mut |name, value| match name {
            "sslmode" => mode.replace(value).is_none(),
            "sslrootcert" => authorities.replace(PathBuf::from(value)).is_none(),
            _ => false,
        });
        // The parser's own message could quote the URL, and with it the password.
        let mut config = Config::from_str(&plain).map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            refused(format!("cannot be read: {}", why.unwrap_or_default()))
        })?;
        let (ssl, proof) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Proof::None),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Proof::None),
            Some("require") if authorities.is_none() => (SslMode::Require, Proof::None),
            Some("require" | "verify-ca" | "verify-full") => (SslMode::Require, Proof::Certificate),
            Some(other) => return Err(refused(format!("has an unknown sslmode: {other}"))),
        };
        config.ssl_mode(ssl);
        if config.get_hosts().is_empty() {
            return Err(refused("names no host".into()));
        }
        if config.get_application_name().is_none() {
            config.application_name("sidestream");
        }
        config.connect_timeout(connect_timeout);
        // A server that vanished without a word is noticed in a minute.
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(60));
        let tls = tls(proof, authorities).map_err(refused)?;
        let place = place(&config);
        Ok(Self { config, tls, place })
    }
}

/// The URL without the parameters that `take` takes.
fn without(url: &str, take: &mut dyn FnMut(&str, String) -> bool) -> String {
    let Some((base, query)) = url.split_once('?') else {
        if url.contains("://") {
            return url.to_owned();
        }
        let words = url
            .split_whitespace()
            .filter(|word| match word.split_once('=') {
                Some((name, value)) => !take(name, value.trim_matches('\'').to_owned()),
                None => true,
            });
        return words.collect::<Vec<_>>().join(" ");
    };
    let left = query.split('&').filter(|part| match part.split_once('=') {
        Some((name, value)) => !take(name, decoded(value)),
        None => true,
    });
    let left = left.collect::<Vec<_>>().join("&");
    match left.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{left}"),
    }
}

/// A value of a URL without its percent signs.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, left @ ..] = rest {
        let code = left.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &left[2..];
            }
            None => {
                bytes.push(*first);
                rest = left;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn place(config: &Config) -> Place {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(", ");
    let database = config.get_dbname().or(config.get_user());
    let database = database.unwrap_or("of the user's name");
    Place(format!("the PostgreSQL database {database} at {hosts}").into())
}

fn tls(proof: Proof, authorities: Option<PathBuf>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot be reached with TLS: {error}"))?;
    let config = match proof {
        Proof::None => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        Proof::Certificate => config.with_root_certificates(trusted(authorities)?),
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

/// Whose word is believed.
fn trusted(authorities: Option<PathBuf>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let unreadable = |why: String| {
                let file = file.display();
                format!(
                    "names a file of authorities (sslrootcert) that cannot be read: {file}: {why}"
                )
            };
            let found =
                CertificateDer::pem_file_iter(&file).map_err(|e| unreadable(e.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| unreadable(e.to_string()))?;
                roots
                    .add(certificate)
                    .map_err(|e| unreadable(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unreadable("it holds no certificate".into()));
            }
        }
        None => {
            let machine = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(machine.certs);
            if roots.is_empty() {
                return Err(
                    "asks for a proof of who the server is (sslmode), and this machine trusts no \
                     authority: name a file of them with sslrootcert"
                        .into(),
                );
            }
        }
    }
    Ok(roots)
}

/// Believes everybody: the connection is encrypted, as `sslmode=require` promises, and no more.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, Failure> {
        Address::parse(url, Duration::from_secs(1))
    }

    #[test]
    fn a_message_names_the_place_and_never_the_password() {
        let secret = "postgresql://me:s3cret@db.example:6432/tasks?sslmode=require";
        let address = parse(secret).expect("it can be read");
        let said = address.place.to_string();
        assert_eq!(said, "the PostgreSQL database tasks at db.example:6432");
        assert!(!format!("{address:?}").contains("s3cret"));
        for bad in [
            "postgresql://me:s3cret@db:port/tasks",
            "postgresql://me:s3cret@db/tasks?sslmode=maybe",
            "postgresql://me:s3cret@db/tasks?s3cret=1",
            "host=db password=s3cret portt=1",
            "s3cret",
        ] {
            let error = parse(bad).expect_err("it is refused").at(&"");
            assert!(
                !error.to_string().contains("s3cret=") && !error.to_string().contains(":s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_modes_of_libpq_are_understood() {
        let mode = |url: &str| parse(url).map(|address| address.config.get_ssl_mode());
        let is = |url: &str, expected| assert_eq!(mode(url).expect("it can be read"), expected);
        is("postgresql://db/tasks", SslMode::Prefer);
        is("host=db dbname=tasks sslmode=disable", SslMode::Disable);
        is("postgresql://db/tasks?sslmode=require", SslMode::Require);
        let roots = "postgresql://db/tasks?sslmode=verify-full&sslrootcert=%2Fno%2Fsuch.pem";
        let error = mode(roots).expect_err("there is no such file").at(&"");
        assert!(error.to_string().contains("/no/such.pem"), "{error}");
    }
}
