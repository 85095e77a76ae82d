//! Joins, by a scripted client that shows tokens and by a scripted server that answers; well or badly.

use crate::connection::{Claim, ClaimId, JoinOptions};
use crate::endpoint::Incoming;
use crate::wire::hello::{
    CHANGE_CIPHER_SPEC, ClientHello, ExtensionTypes, JoinHello, JoinServerHello, ZeroRtt, parse_client_hello,
    split_message,
};
use crate::wire::ids::{ConnectionId, Token};
use bytes::BytesMut;

use super::frames::{PING, token};
use super::record::{DATA, Record, encoded};
use super::{Peer, Wire};

/// A TCP connection of the scripted client whose join is not authenticated yet.
pub struct Dial {
    /// Its state at the server under test.
    pub claim: ClaimId,
    unread: BytesMut,
}

impl Peer {
    /// Returns the ClientHello of a valid join, with early data. A script may change it at will.
    pub fn hello(&self, token: Token) -> JoinHello<'static> {
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
    /// the server's endpoint refuses it with these bytes.
    pub fn dial(&mut self, first: &[u8]) -> Result<Dial, Vec<u8>> {
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
    pub fn dial_hello(&mut self, hello: &JoinHello<'_>) -> Result<Dial, Vec<u8>> {
        self.dial(&hello_bytes(hello))
    }

    /// More bytes on a TCP connection that is not authenticated.
    pub fn feed(&mut self, dial: &mut Dial, bytes: &[u8]) -> Claim {
        dial.unread.extend_from_slice(bytes);
        let claim = self.conn.handle_claim_bytes(self.now, dial.claim, &mut dial.unread);
        self.hear_events();
        claim
    }

    /// Returns what the server under test sends on such a TCP connection.
    pub fn hear(&mut self, dial: &Dial) -> Vec<u8> {
        let mut out = Vec::new();
        while self.conn.poll_claim_transmit(dial.claim, &mut out) > 0 {}
        out
    }

    /// Joins with the lowest token in hand: hello, ChangeCipherSpec and a Ping in one flight. The server's part of the
    /// apparent handshake is the first that [`Peer::recv`] gives.
    pub fn join(&mut self) -> ConnectionId {
        let (sequence, token) = self.tokens.pop_first().expect("the server supplies tokens");
        let tcp = ConnectionId(sequence);
        let ping = self.seal(tcp, DATA, &encoded(&[PING]));
        let flight = [hello_bytes(&self.hello(token)), CHANGE_CIPHER_SPEC.to_vec(), ping].concat();
        let dial = self.dial(&flight).expect("the token is good");
        assert_eq!(self.conn.claim(dial.claim), Claim::Authenticated(tcp));
        tcp
    }

    /// Gives the client under test token `sequence` and lets it open a TCP connection with it. Returns its hello and what
    /// followed in the same flight.
    pub fn let_open(&mut self, sequence: u8, zero_rtt: bool) -> (ClientHello, Vec<Record>) {
        self.send(ConnectionId::FIRST, &[token(sequence, sequence)]);
        let tcp = self
            .conn
            .open_tcp_with(self.now, JoinOptions::default().with(|join| join.zero_rtt = zero_rtt))
            .expect("there is a token");
        assert_eq!(tcp, ConnectionId(u32::from(sequence)));
        self.take_hello(tcp)
    }

    /// Takes the hello of a TCP connection that the client under test has opened, and what followed in the same flight.
    pub fn take_hello(&mut self, tcp: ConnectionId) -> (ClientHello, Vec<Record>) {
        let generation = self.keys.seal_current;
        self.wires.insert(tcp, Wire::new(generation));
        let mut flight = self.recv(tcp);
        let hello = flight.remove(0);
        let (_, body) = split_message(&hello.content).expect("a whole message");
        (parse_client_hello(body, &ExtensionTypes::default()).expect("a good hello"), flight)
    }

    /// Returns the ServerHello of a valid answer to a join.
    pub fn answer<'a>(&self, hello: &'a ClientHello) -> JoinServerHello<'a> {
        JoinServerHello {
            random: [21; 32],
            session_id: &hello.session_id,
            suite: self.suite,
            key_share: [22; 32],
            psk: hello.psk,
        }
    }

    /// Lets the client under test join TCP connection `sequence`, to the end.
    pub fn accept(&mut self, sequence: u8) -> ConnectionId {
        let (hello, _) = self.let_open(sequence, true);
        let tcp = ConnectionId(u32::from(sequence));
        let answer = answer_bytes(&self.answer(&hello));
        self.send_bytes(tcp, &answer);
        self.send(tcp, &[PING]);
        tcp
    }
}

/// Encodes the ClientHello of a join.
pub fn hello_bytes(hello: &JoinHello<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    hello.encode(&ExtensionTypes::default(), &mut out);
    out
}

/// Encodes the answer to a join: ServerHello and ChangeCipherSpec.
pub fn answer_bytes(answer: &JoinServerHello<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    answer.encode(&mut out);
    out.extend_from_slice(&CHANGE_CIPHER_SPEC);
    out
}
