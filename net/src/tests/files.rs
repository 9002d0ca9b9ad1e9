//! Identity files that are no good: the error names the file, the mistake and the way out.

use std::fs;

use super::*;

fn error(folder: &Path, name: &str) -> conveyor_model::Error {
    Tls::load(&settings(folder, name)).err().expect("it is no good")
}

#[test]
fn every_mistake_is_told_apart() {
    let folder = authority();
    let folder = folder.path();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let (cert, key, ca) = (read("router-1.crt"), read("router-1.key"), read("ca.crt"));
    let big = vec![b'x'; (table::MAX_IDENTITY_FILE + 1) as usize];
    let cases: [(&str, &[u8], &str, &str); 9] = [
        ("router-1.key", &read("router-2.key"), "tls-key-mismatch", "router-1.crt"),
        ("router-1.key", b"", "tls-key", "PRIVATE KEY"),
        ("router-1.key", &cert, "tls-key", "PRIVATE KEY"),
        ("router-1.key", &big, "tls-file", "most"),
        ("router-1.crt", b"nothing", "tls-certificate", "CERTIFICATE"),
        (
            "router-1.crt",
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
            "tls-certificate",
            "PEM",
        ),
        ("router-1.crt", &ca, "peer-nameless", "conveyorctl certs"),
        ("ca.crt", &key, "tls-certificate", "CERTIFICATE"),
        ("ca.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "tls-ca", "authority"),
    ];
    for (file, bytes, code, says) in cases {
        write("router-1.crt", &cert);
        write("router-1.key", &key);
        write("ca.crt", &ca);
        write(file, bytes);
        let error = error(folder, "router-1");
        assert_eq!(error.code(), code, "{file}: {error}");
        assert!(error.to_string().contains(file), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_absent_file_is_named() {
    let folder = authority();
    let error = error(folder.path(), "router-9");
    assert_eq!(error.code(), "tls-file");
    assert!(error.to_string().contains("router-9.crt"), "{error}");
}

#[test]
fn a_certificate_that_no_longer_holds_is_refused_at_the_start() {
    let folder = authority();
    renew(folder.path(), now() - 60 * DAY);
    let late = error(folder.path(), "router-1");
    assert_eq!(late.code(), "tls-expired");
    renew(folder.path(), now() + 60 * DAY);
    assert_eq!(error(folder.path(), "router-1").code(), "tls-expired");
    assert!(late.help_text().unwrap().contains("--renew"));
}
