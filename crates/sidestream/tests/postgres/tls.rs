//! TLS to the server: encrypted where that is asked for, and to nobody but whom the URL names where a proof
//! is.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use sidestream::error::{StoreError, StoreErrorKind};
use sidestream::store::{PostgresOptions, PostgresStore};
use sidestream_test_postgres::{Cluster, Identity, Options};
use tempfile::TempDir;

use crate::support::open;
use crate::work::{audit, dispatch_some};

/// An authority, as a file of certificates that a URL can name.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self {
            issuer,
            folder: TempDir::new().expect("a temporary directory"),
        };
        std::fs::write(authority.file(), authority.issuer.pem()).expect("it is writable");
        authority
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("authorities.pem")
    }

    /// A certificate for a host's name or address.
    fn identity(&self, host: &str, lasts: Lasts) -> Identity {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a fit name");
        if lasts == Lasts::NoMore {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A cluster whose certificate is for its address, which is that of every cluster.
    fn cluster(&self) -> Cluster {
        cluster(self.identity("127.0.0.1", Lasts::Long))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    Long,
    NoMore,
}

fn cluster(identity: Identity) -> Cluster {
    Cluster::start_with(Options {
        identity: Some(identity),
        ..Options::default()
    })
}

fn url(cluster: &Cluster, parameters: &str) -> String {
    let plain = cluster.url("postgres");
    let (base, _) = plain.split_once('?').expect("it has parameters");
    format!("{base}?{parameters}")
}

fn proving(cluster: &Cluster, authority: &Authority) -> String {
    let file = authority.file();
    let file = file.to_string_lossy().replace('/', "%2F");
    url(cluster, &format!("sslmode=verify-full&sslrootcert={file}"))
}

async fn refused(url: &str) -> StoreError {
    let opened = PostgresStore::open(url, PostgresOptions::default()).await;
    let error = opened.expect_err("it is refused");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let server = url.split(['@', '/']).nth(3).expect("it names the server");
    assert!(error.to_string().contains(server), "{error}");
    error
}

/// How the sessions of a cluster are encrypted.
fn encrypted(cluster: &Cluster) -> String {
    cluster.sql(
        "postgres",
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name LIKE 'sidestream%'",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_encrypted_where_the_server_can_or_must() {
    let cluster = Authority::new("ours").cluster();
    for (parameters, is_encrypted) in [
        ("sslmode=disable", "f"),
        ("sslmode=prefer", "t"),
        ("", "t"),
        ("sslmode=require", "t"),
    ] {
        let store = open(&url(&cluster, parameters)).await;
        dispatch_some(&store, [parameters.to_owned()]).await;
        assert_eq!(encrypted(&cluster), is_encrypted, "{parameters}");
    }
}

/// Every connection proves it: those of the pool, and the one that listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_certificate_of_a_trusted_authority_is_believed() {
    let ours = Authority::new("ours");
    let cluster = ours.cluster();
    let store = open(&proving(&cluster, &ours)).await;
    dispatch_some(&store, ["t".to_owned()]).await;
    assert_eq!(audit(&store).await.len(), 1);
    assert_eq!(encrypted(&cluster), "t");
    let strict = proving(&cluster, &ours).replace("verify-full", "require");
    dispatch_some(&open(&strict).await, ["u".to_owned()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_prove_it_is_refused_by_reason() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let cluster_of_ours = ours.cluster();
    let elsewhere = cluster(ours.identity("db.example.com", Lasts::Long));
    let expired = cluster(ours.identity("127.0.0.1", Lasts::NoMore));
    let plain = Cluster::start();
    // The certificate is for an address, and the URL has a name.
    let named = proving(&cluster_of_ours, &ours).replace("127.0.0.1", "localhost");
    let no_authority = "of no authority that is trusted here";
    for (url, why) in [
        (proving(&cluster_of_ours, &theirs), no_authority),
        (url(&cluster_of_ours, "sslmode=verify-full"), no_authority),
        (
            proving(&elsewhere, &ours),
            "not for 127.0.0.1, but for db.example.com",
        ),
        (named, "not for localhost, but for 127.0.0.1"),
        (proving(&expired, &ours), "has expired"),
        (proving(&plain, &ours), "speaks no TLS"),
        (url(&plain, "sslmode=require"), "speaks no TLS"),
    ] {
        let error = refused(&url).await;
        assert!(error.to_string().contains(why), "{error}");
    }
}
