//! The handshake: who is at the other end, and nothing else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use betanet_mix::view::LinkAddress;
use ed25519_dalek::SigningKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream, client};
use zeroize::Zeroizing;

use super::handshake::HandshakeError;
use super::io::{LinkReader, LinkSender, LinkTimeouts, LinkWriter, MESSAGE_LIMIT, REQUEST_LIMIT, spawn_writer};
use super::names;

/// Application protocol both sides must speak; a change of framing changes this name.
const ALPN: &[u8] = b"betanet/1";

/// DER of an Ed25519 SubjectPublicKeyInfo (RFC 8410) up to the 32 key bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// DER of an Ed25519 PKCS#8 private key (RFC 8410) up to the 32 seed bytes.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Makes links to others under one own key.
#[derive(Clone)]
pub struct Dialer {
    provider: Arc<CryptoProvider>,
    own: Arc<CertifiedKey>,
    timeouts: LinkTimeouts,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialler that presents the public half of `key`.
    ///
    /// # Errors
    /// [`HandshakeError::OwnKey`] if the TLS library refuses the key.
    pub fn new(key: &SigningKey, timeouts: LinkTimeouts) -> Result<Self, HandshakeError> {
        let provider = provider();
        let own = certified(key).map_err(HandshakeError::OwnKey)?;
        Ok(Self { provider, own, timeouts })
    }

    /// Opens a link to `address`, resolving it if it is a name, and proves that the peer holds `expected`.
    ///
    /// `queue` bounds the frames that wait to be written.
    ///
    /// # Errors
    /// No connection, another key than `expected`, or no answer in time.
    pub async fn dial(
        &self,
        address: &LinkAddress,
        expected: [u8; 32],
        queue: usize,
    ) -> Result<(LinkSender, LinkReader), HandshakeError> {
        let (writer, reader) = self.dial_writer(address, expected).await?;
        Ok((spawn_writer(writer, queue), reader))
    }

    /// As [`Dialer::dial`], for a caller who writes himself what waits in a queue that outlives the link.
    ///
    /// # Errors
    /// As there.
    pub async fn dial_writer(
        &self,
        address: &LinkAddress,
        expected: [u8; 32],
    ) -> Result<(LinkWriter, LinkReader), HandshakeError> {
        let stream = TlsStream::Client(self.shake_hands(address, expected).await?);
        Ok(split(stream, MESSAGE_LIMIT, self.timeouts))
    }

    /// Where whoever holds `expected` is reached under `address`. The link is closed again.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn find(&self, address: &LinkAddress, expected: [u8; 32]) -> Result<IpAddr, HandshakeError> {
        let mut stream = self.shake_hands(address, expected).await?;
        let ip = stream.get_ref().0.peer_addr().map_err(HandshakeError::Connect)?.ip();
        // The other side knows what it has to know, whether or not it hears the end.
        let _ = timeout(self.timeouts.handshake, stream.shutdown()).await;
        Ok(ip)
    }

    async fn shake_hands(
        &self,
        address: &LinkAddress,
        expected: [u8; 32],
    ) -> Result<client::TlsStream<TcpStream>, HandshakeError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(HandshakeError::OwnKey)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(RawKeyVerifier {
                pinned: Some(expected),
                algorithms: self.provider.signature_verification_algorithms,
            }))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.own))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        let connect = async {
            let tcp = names::connect(address, self.timeouts.handshake).await?;
            tcp.set_nodelay(true).map_err(HandshakeError::Connect)?;
            let ip = tcp.peer_addr().map_err(HandshakeError::Connect)?.ip();
            TlsConnector::from(Arc::new(config))
                .connect(ServerName::IpAddress(ip.into()), tcp)
                .await
                .map_err(HandshakeError::Tls)
        };
        let stream = timeout(self.timeouts.handshake, connect).await.map_err(|_| HandshakeError::Timeout)??;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(HandshakeError::Protocol);
        }
        Ok(stream)
    }
}

/// Accepts links under one own key.
pub struct Listener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    timeouts: LinkTimeouts,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// A TCP connection whose handshake has not happened yet, so that a slow peer holds up nobody.
pub struct Accepted {
    tcp: TcpStream,
    ip: IpAddr,
    acceptor: TlsAcceptor,
    timeouts: LinkTimeouts,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener on an already bound socket, presenting the public half of `key`.
    ///
    /// # Errors
    /// [`HandshakeError::OwnKey`] if the TLS library refuses the key.
    pub fn new(tcp: TcpListener, key: &SigningKey, timeouts: LinkTimeouts) -> Result<Self, HandshakeError> {
        let provider = provider();
        let own = certified(key).map_err(HandshakeError::OwnKey)?;
        let verifier = RawKeyVerifier { pinned: None, algorithms: provider.signature_verification_algorithms };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(HandshakeError::OwnKey)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Self { tcp, acceptor: TlsAcceptor::from(Arc::new(config)), timeouts })
    }

    /// The address in use.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Waits for the next TCP connection. Cancel safe.
    ///
    /// # Errors
    /// Whatever the operating system says; often out of file descriptors, so retry after a pause.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (tcp, peer) = self.tcp.accept().await?;
        tcp.set_nodelay(true)?;
        Ok(Accepted { tcp, ip: peer.ip(), acceptor: self.acceptor.clone(), timeouts: self.timeouts })
    }
}

impl Accepted {
    /// Where the connection comes from.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Runs the handshake; returns the peer's key with both halves of the link. Whoever drops the reader closes the link, whatever
    /// waits to be written.
    ///
    /// # Errors
    /// The peer proved no key, spoke another protocol, or was too slow.
    pub async fn handshake(self, queue: usize) -> Result<([u8; 32], LinkSender, LinkReader), HandshakeError> {
        let stream = timeout(self.timeouts.handshake, self.acceptor.accept(self.tcp))
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(HandshakeError::Tls)?;
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(HandshakeError::Protocol);
        }
        let peer = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|spki| key_of(spki.as_ref()))
            .ok_or(HandshakeError::PeerKey)?;
        let (writer, mut reader) = split(TlsStream::Server(stream), REQUEST_LIMIT, self.timeouts);
        Ok((peer, reader.spawn_writer(writer, queue), reader))
    }
}

fn split(stream: TlsStream<TcpStream>, message_limit: usize, timeouts: LinkTimeouts) -> (LinkWriter, LinkReader) {
    let (read, write): (ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>) = tokio::io::split(stream);
    (LinkWriter::new(write, timeouts), LinkReader::new(read, message_limit, timeouts))
}

/// TLS 1.3 with the hybrid X25519MLKEM768 first and X25519 behind it.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    Arc::new(provider)
}

fn certified(key: &SigningKey) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let seed = Zeroizing::new(key.to_bytes());
    let der = Zeroizing::new([PKCS8_PREFIX.as_slice(), seed.as_slice()].concat());
    // The provider's loader takes a copy that nobody wipes.
    let private = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der.as_slice()))?;
    let spki = spki_of(key.verifying_key().as_bytes());
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], private)))
}

fn spki_of(key: &[u8; 32]) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), key.as_slice()].concat()
}

fn key_of(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(SPKI_PREFIX.as_slice())?.try_into().ok()
}

/// Accepts any Ed25519 raw key, or exactly the pinned one.
#[derive(Debug)]
struct RawKeyVerifier {
    pinned: Option<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl RawKeyVerifier {
    fn check(&self, spki: &[u8], chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let key = key_of(spki).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        // Both are public, so the comparison need not be constant time.
        let expected = self.pinned.is_none_or(|pinned| pinned == key);
        if !chain.is_empty() || !expected {
            return Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    fn verify(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(spki.as_ref()),
            dss,
            &self.algorithms,
        )
    }
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity.as_ref(), intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity.as_ref(), intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl Default for LinkTimeouts {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(5), keepalive: Duration::from_secs(15), silence: Duration::from_mins(1) }
    }
}

#[cfg(test)]
mod tests;
