//! What `get` can put into its ClientHello: `--cert-compression` and `--ech`.

use super::{Tcpls, command, get_line};
use crate::refusals::overhear;
use crate::support::{Directory, pattern, soon};

const LEN: usize = 100_000;

/// What became of a download with these options from a server with those, and the client's ClientHello.
async fn download(name: &str, get: &[&str], serve: &[&str]) -> (std::process::Output, Vec<u8>) {
    let directory = Directory::new(name);
    let (_server, address) = Tcpls::serve(directory.path(), serve).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let (relayed, overheard) = overhear(address.parse().unwrap()).await;
    let mut line = get_line(directory.path(), &relayed.to_string(), "file");
    line.extend(get.iter().map(|word| (*word).to_owned()));
    let output = command(&[]).args(line).output().await.unwrap();
    if output.status.success() {
        assert!(std::fs::read(directory.path().join("out/file")).unwrap() == pattern(LEN));
    }
    (output, soon(overheard).await.unwrap())
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(feature = "cert-compression")]
mod compression {
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::compress::{CertDecompressor, DecompressionFailed, ZLIB_DECOMPRESSOR};
    use rustls::crypto::ring;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{CertificateCompressionAlgorithm, ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// compress_certificate with two algorithms: brotli and zlib.
    const OFFER: [u8; 9] = [0, 27, 0, 5, 4, 0, 2, 0, 1];

    #[tokio::test(flavor = "multi_thread")]
    async fn get_offers_to_decompress_certificates_only_if_asked_to() {
        for (options, offers) in [(&["--cert-compression"][..], true), (&[], false)] {
            let (output, hello) = download("cert-compression", options, &["--cert-compression"]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(has(&hello, &OFFER), offers);
        }
    }

    static DECOMPRESSED: AtomicUsize = AtomicUsize::new(0);

    /// zlib, counted.
    #[derive(Debug)]
    struct Counted;

    impl CertDecompressor for Counted {
        fn decompress(&self, input: &[u8], output: &mut [u8]) -> Result<(), DecompressionFailed> {
            DECOMPRESSED.fetch_add(1, Ordering::Relaxed);
            ZLIB_DECOMPRESSOR.decompress(input, output)
        }

        fn algorithm(&self) -> CertificateCompressionAlgorithm {
            ZLIB_DECOMPRESSOR.algorithm()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn serve_compresses_its_certificate_only_if_asked_to() {
        for (options, expected) in [(&[][..], 0), (&["--cert-compression"][..], 1)] {
            let directory = Directory::new("serve-cert-compression");
            let (_server, address) = Tcpls::serve(directory.path(), options).await;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(directory.path().join("ca.pem")).unwrap()).unwrap();
            let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.cert_decompressors = vec![&Counted];
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let mut tls = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
            let before = DECOMPRESSED.load(Ordering::Relaxed);
            let answered = tokio::task::spawn_blocking(move || {
                let mut socket = std::net::TcpStream::connect(address).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut socket);
                stream.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let mut start = [0; 9];
                stream.read_exact(&mut start).unwrap();
                start
            });
            assert_eq!(&answered.await.unwrap(), b"HTTP/1.1 ");
            assert_eq!(DECOMPRESSED.load(Ordering::Relaxed) - before, expected);
        }
    }
}

#[cfg(feature = "aws-lc-rs")]
mod ech {
    use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    use rustls::crypto::hpke::Hpke;

    use super::*;

    /// encrypted_client_hello of an outer ClientHello, with HKDF-SHA256 and AES-128-GCM.
    const OUTER: [u8; 5] = [0, 0, 1, 0, 1];

    fn has_ech(hello: &[u8]) -> bool {
        hello.windows(2 + 2 + OUTER.len()).any(|bytes| bytes[..2] == [0xfe, 0x0d] && bytes[4..] == OUTER)
    }

    /// A list with one configuration of a server that is called `public.test` in clear.
    fn config_list() -> Vec<u8> {
        let (public, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
        let key_config = [&[1, 0, 0x20, 0, 32][..], &public.0, &[0, 4, 0, 1, 0, 1]].concat();
        let contents = [&key_config[..], &[0, 11], b"public.test", &[0, 0]].concat();
        let config = [&[0xfe, 0x0d, 0, contents.len() as u8][..], &contents].concat();
        [&[0, config.len() as u8][..], &config].concat()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn get_pretends_to_encrypt_its_client_hello_if_asked_to() {
        for (options, pretends) in [(&["--ech", "GREASE"][..], true), (&[], false)] {
            let (output, hello) = download("ech-grease", options, &[]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!((has_ech(&hello), has(&hello, b"localhost")), (pretends, true));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn get_hides_the_servers_name_and_names_the_cause_if_the_server_has_other_keys() {
        let directory = Directory::new("ech-file");
        let file = directory.path().join("ech");
        std::fs::write(&file, config_list()).unwrap();
        let options = ["--ech", file.to_str().unwrap(), "--wait", "0s"];
        let (output, hello) = download("ech", &options, &["--name", "public.test"]).await;
        assert!(has_ech(&hello) && has(&hello, b"public.test") && !has(&hello, b"localhost"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("rejected Encrypted ClientHello"), "{text}");
    }

    #[tokio::test]
    async fn get_refuses_a_file_that_is_no_configuration() {
        let directory = Directory::new("ech-bad");
        let file = directory.path().join("ech");
        std::fs::write(&file, b"nothing").unwrap();
        let line = ["get", "--ech", file.to_str().unwrap(), "--insecure", "https://localhost:1/file"];
        let output = command(&line).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains("ECH configuration in"), "{text}");
    }
}
