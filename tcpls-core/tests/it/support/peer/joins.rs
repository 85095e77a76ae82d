//! Joins, by a scripted client that shows tokens and by a scripted server that answers; well or badly.

use bytes::BytesMut;
use tcpls_core::connection::{Claim, ClaimId, JoinOptions};
use tcpls_core::endpoint::Incoming;
use tcpls_core::testing::hello::{
    CHANGE_CIPHER_SPEC, ClientHello, ExtensionTypes, JoinHello, JoinServerHello, ZeroRtt, parse_client_hello,
    split_message,
};
use tcpls_core::wire::ids::{ConnectionId, Token};

use super::frames::{PING, token};
use super::{DATA, Peer, Record, Wire, encoded};

/// A TCP connection of the scripted client that has shown a token.
pub(crate) struct Dial {
    pub(crate) claim: ClaimId,
    unread: BytesMut,
}

impl Peer {
    /// The hello of a good join, with early data. To be spoilt at will.
    pub(crate) fn hello(&self, token: Token) -> JoinHello<'static> {
        JoinHello {
            random: [11; 32],
            session_id: [12; 32],
            suite: self.suite,
            server_name: Some("server.test"),
            alpn: Some(b"tcpls"),
            key_share: [13; 32],
            token,
            zero_rtt: Some(ZeroRtt { identity: &[14; 208], obfuscated_age: 15, binder: &[16; 48] }),
        }
    }

    /// Opens a TCP connection to the server under test and sends `first` on it, which begins with a ClientHello. `Err`:
    /// the server's front door turns it away with these bytes.
    pub(crate) fn dial(&mut self, first: &[u8]) -> Result<Dial, Vec<u8>> {
        let mut unread = BytesMut::from(first);
        let incoming = self.endpoint.handle_accepted(self.now);
        match self.endpoint.handle_bytes(self.now, incoming, &mut unread) {
            Some(Incoming::Join(join)) => {
                let claim = self.conn.handle_join(self.now, join);
                let mut dial = Dial { claim, unread };
                self.feed(&mut dial, &[]);
                Ok(dial)
            }
            Some(Incoming::Refused { alert }) => Err(alert),
            other => panic!("a hello with a token is a join, not {other:?}"),
        }
    }

    /// The same with a hello that is made up of its parts, and nothing after it.
    pub(crate) fn dial_hello(&mut self, hello: &JoinHello<'_>) -> Result<Dial, Vec<u8>> {
        self.dial(&hello_bytes(hello))
    }

    /// More bytes on a TCP connection that has not proven itself.
    pub(crate) fn feed(&mut self, dial: &mut Dial, bytes: &[u8]) -> Claim {
        dial.unread.extend_from_slice(bytes);
        let claim = self.conn.handle_claim_bytes(self.now, dial.claim, &mut dial.unread);
        self.hear_events();
        claim
    }

    /// What the server under test sends on such a TCP connection.
    pub(crate) fn hear(&mut self, dial: &Dial) -> Vec<u8> {
        let mut out = Vec::new();
        while self.conn.poll_claim_transmit(dial.claim, &mut out) > 0 {}
        out
    }

    /// Joins with the lowest token in hand: hello, ChangeCipherSpec and a Ping in one flight. The server's part of the
    /// apparent handshake is the first that [`Peer::recv`] gives.
    pub(crate) fn join(&mut self) -> ConnectionId {
        let (sequence, token) = self.tokens.pop_first().expect("the server supplies tokens");
        let tcp = ConnectionId(sequence);
        let ping = self.seal(tcp, DATA, &encoded(&[PING]));
        let flight = [hello_bytes(&self.hello(token)), CHANGE_CIPHER_SPEC.to_vec(), ping].concat();
        let dial = self.dial(&flight).expect("the token is good");
        assert_eq!(self.conn.claim(dial.claim), Claim::Proven(tcp));
        tcp
    }

    /// Gives the client under test token `sequence` and lets it open a TCP connection with it. Returns its hello and what
    /// followed in the same flight.
    pub(crate) fn let_open(&mut self, sequence: u8, zero_rtt: bool) -> (ClientHello, Vec<Record>) {
        self.send(ConnectionId::FIRST, &[token(sequence, sequence)]);
        let tcp = self.conn.open_tcp_with(self.now, JoinOptions { zero_rtt, backup: false }).expect("there is a token");
        assert_eq!(tcp, ConnectionId(u32::from(sequence)));
        let generation = self.keys.seal_current;
        self.wires.insert(tcp, Wire::new(generation));
        let mut flight = self.recv(tcp);
        let hello = flight.remove(0);
        let (_, body) = split_message(&hello.content).expect("a whole message");
        (parse_client_hello(body, &ExtensionTypes::default()).expect("a good hello"), flight)
    }

    /// The answer to a join that a good server gives.
    pub(crate) fn answer<'a>(&self, hello: &'a ClientHello) -> JoinServerHello<'a> {
        JoinServerHello {
            random: [21; 32],
            session_id: &hello.session_id,
            suite: self.suite,
            key_share: [22; 32],
            psk: hello.psk,
        }
    }

    /// Lets the client under test join TCP connection `sequence`, to the end.
    pub(crate) fn accept(&mut self, sequence: u8) -> ConnectionId {
        let (hello, _) = self.let_open(sequence, true);
        let tcp = ConnectionId(u32::from(sequence));
        let answer = answer_bytes(&self.answer(&hello));
        self.send_bytes(tcp, &answer);
        self.send(tcp, &[PING]);
        tcp
    }
}

pub(crate) fn hello_bytes(hello: &JoinHello<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    hello.encode(&ExtensionTypes::default(), &mut out);
    out
}

/// ServerHello and ChangeCipherSpec.
pub(crate) fn answer_bytes(answer: &JoinServerHello<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    answer.encode(&mut out);
    out.extend_from_slice(&CHANGE_CIPHER_SPEC);
    out
}
