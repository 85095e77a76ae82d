//! The flows: joins and resumptions of sessions between the same clients and servers, as records on the wire.

use std::time::Duration;

use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::testing::{Pair, Setup, Tls, bytes, tls};
use tcpls_core::wire::record::RecordHeader;
use tcpls_core::{ConnectionId, Side};

/// Sessions of a client, one after the other: the first has a full handshake, the others resume.
const SESSIONS: usize = 5;
/// The lengths of requests are below this, in bytes.
const LONGEST_REQUEST: u64 = 2000;

/// How far an inspector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Up to the first record of application data.
    Handshake,
    /// Early data, and two more records of each side.
    Application,
}

impl View {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Application => "first application records",
        }
    }
}

/// What a join looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Resumed,
    Draft,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Resumed => "resumed joins",
            Self::Draft => "joins in the draft's form",
        }
    }
}

/// Whether joins, and sessions that resume, send data with their hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OneRtt,
    ZeroRtt,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OneRtt => "1-RTT",
            Self::ZeroRtt => "0-RTT",
        }
    }
}

/// One record on the wire.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// From the client to the server.
    pub(super) is_up: bool,
    /// With its header.
    pub(super) bytes: Vec<u8>,
}

/// The records of a TCP connection, in order.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) is_join: bool,
    pub(super) records: Vec<Record>,
}

/// `n` joins and `n` resumptions, as the sessions bring them about.
pub(super) fn make(form: Form, kind: Kind, n: usize, seed: u64) -> Vec<Flow> {
    let (mut flows, mut clients) = (Vec::new(), seed << 32);
    while flows.len() < 2 * n {
        clients += 1;
        let ends = Ends::new(form, kind, clients);
        for number in 0..SESSIONS {
            ends.session(number, &mut flows);
        }
    }
    flows.truncate(2 * n);
    flows
}

/// A client and a server.
struct Ends {
    client: RustlsClient,
    server: RustlsServer,
    kind: Kind,
    seed: u64,
}

impl Ends {
    fn new(form: Form, kind: Kind, seed: u64) -> Self {
        let early = kind == Kind::ZeroRtt;
        let resumed_joins = form == Form::Resumed;
        let tls = Tls { early_client: early, early_server: early, resumed_joins, ..Tls::default() };
        Self { client: tls.client(2 * seed), server: tls.server(2 * seed + 1), kind, seed }
    }

    /// Appends the flow of a session, if it resumes another one, and that of its join, if another session follows: both happen
    /// equally often.
    fn session(&self, number: usize, flows: &mut Vec<Flow>) {
        let seed = self.seed * SESSIONS as u64 + number as u64;
        let client = tls::start_client(&self.client);
        let server = self.server.handshake().expect("a complete configuration");
        let mut pair = Pair::new(Setup { seed, ..Setup::default() }, client, server);
        let records = watch(&mut pair, 0, request(2 * seed));
        if number > 0 {
            flows.push(Flow { is_join: false, records });
        }
        if number + 1 == SESSIONS {
            return;
        }
        if mix(seed).is_multiple_of(2) {
            pair.cut(ConnectionId::FIRST); // the join replaces it
        }
        let request = write(&mut pair, request(2 * seed + 1)); // what a join carries waits for it
        match self.kind {
            Kind::OneRtt => pair.open_tcp_slowly(),
            Kind::ZeroRtt => pair.open_tcp(),
        };
        flows.push(Flow { is_join: true, records: watch(&mut pair, 1, request) });
    }
}

/// A request of a random length.
fn request(seed: u64) -> Option<Vec<u8>> {
    Some(bytes(1 + (mix(seed) % LONGEST_REQUEST) as usize))
}

/// The client writes the request, as soon as it may open a stream; returns what it could not write.
fn write(pair: &mut Pair, request: Option<Vec<u8>>) -> Option<Vec<u8>> {
    let data = request?;
    let Ok(stream) = pair.client().open_stream() else { return Some(data) };
    pair.write(Side::Client, stream, &data);
    None
}

/// The finalizer of SplitMix64: numbers that look random.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Runs the pair, with this request, until it is at rest; returns the records of one of its TCP connections.
fn watch(pair: &mut Pair, tcp: usize, mut request: Option<Vec<u8>>) -> Vec<Record> {
    let (mut records, mut seen) = (Vec::new(), [0, 0]);
    for _ in 0..4 {
        loop {
            request = write(pair, request);
            observe(pair, tcp, &mut seen, &mut records);
            if !pair.round() {
                break;
            }
        }
        pair.advance(Duration::from_millis(10));
    }
    records
}

/// Appends the records that were written since `seen`.
fn observe(pair: &Pair, tcp: usize, seen: &mut [usize; 2], records: &mut Vec<Record>) {
    let (up, down) = pair.wire()[tcp];
    for ((is_up, sent), seen) in [(true, up), (false, down)].into_iter().zip(seen) {
        while let Ok(Some(header)) = RecordHeader::parse(&sent[*seen..]) {
            let Some(bytes) = sent.get(*seen..*seen + header.record_len()) else { break };
            records.push(Record { is_up, bytes: bytes.to_vec() });
            *seen += bytes.len();
        }
    }
}

impl Flow {
    /// The part of the flow that this view shows.
    ///
    /// Of a handshake that is the hello of the client, the server's flight as rustls groups it (ServerHello; ChangeCipherSpec;
    /// EncryptedExtensions with Finished), and the two records by which the client ends it: ChangeCipherSpec and Finished, or
    /// EndOfEarlyData and Finished. Early data is application data.
    pub(super) fn up_to(&self, view: View) -> Self {
        let (ups, downs) = match view {
            View::Handshake => (2, 3),
            View::Application => (4, 5),
        };
        let (mut before_flight, mut up, mut down) = (true, 0, 0);
        let mut records = self.records.clone();
        records.retain(|record| match (record.is_up, before_flight) {
            (true, true) => view == View::Application || record.bytes[0] != 23,
            (true, false) => {
                up += 1;
                up <= ups
            }
            (false, _) => {
                before_flight = false;
                down += 1;
                down <= downs
            }
        });
        Self { is_join: self.is_join, records }
    }
}
