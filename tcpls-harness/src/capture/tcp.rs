//! The records of one TCP connection: the handshake of a session, or a join.

use tcpls_core::crypto::Suite;
use tcpls_core::wire::record::{ContentType, HEADER_LEN, RecordHeader};
use tcpls_core::{ConnectionId, Side};

use super::Skipped;
use super::hello::{Agreed, CLIENT_HELLO, ClientHello, MAX_HELLO, SERVER_HELLO, ServerHello, split_message};
use super::key_log::Secrets;
use super::keys::{Keys, Opened, Secret, suites};
use super::sessions::{SessionIndex, Sessions};

/// Protected records of a direction that may fail to open before the first that does: those of the handshake if their
/// secrets are not in the key log, rejected early data, and the end of the handshake of a join that is a resumption.
const MAX_UNOPENED: u32 = 128;

/// A record that was opened.
#[derive(Debug)]
pub(super) struct Decrypted {
    pub(super) session: SessionIndex,
    pub(super) tcp: ConnectionId,
    pub(super) number: Option<u64>,
    pub(super) generation: u32,
    pub(super) opened: Opened,
}

/// The state of one TCP connection.
#[derive(Default)]
pub(super) struct Tcp {
    /// The bytes of records that are not complete, of the client and of the server.
    buffers: [Vec<u8>; 2],
    /// Plaintext handshake messages that are not complete.
    messages: [Vec<u8>; 2],
    role: Role,
    over: Option<Skipped>,
}

#[derive(Default)]
enum Role {
    /// The ClientHello is not complete.
    #[default]
    Unknown,
    First(Box<First>),
    Join(Join),
}

/// The first TCP connection of a session.
struct First {
    random: [u8; 32],
    secrets: Secrets,
    early: Option<Keys>,
    suite: Option<Suite>,
    session: Option<SessionIndex>,
    client: Position,
    server: Position,
}

/// A joined TCP connection.
struct Join {
    /// `None` until a token, or a trial, says it.
    identity: Option<(SessionIndex, ConnectionId)>,
    client: Option<Position>,
    server: Option<Position>,
    unopened: u32,
}

/// Where one direction is.
#[derive(Clone, Copy, Debug)]
struct Position {
    phase: Phase,
    generation: u32,
    sequence: u64,
    /// Records under application keys.
    number: u64,
    /// The last record ended like a KeyUpdate: the next one has the next generation.
    updates: bool,
    unopened: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Early,
    Handshake,
    Application,
}

impl Position {
    fn at(phase: Phase) -> Self {
        Self { phase, generation: 0, sequence: 0, number: 0, updates: false, unopened: 0 }
    }

    /// The generation and sequence of the next record, the likelier first.
    fn expected(&self) -> [Option<(u32, u64)>; 2] {
        let here = Some((self.generation, self.sequence));
        if self.updates { [Some((self.generation + 1, 0)), here] } else { [here, None] }
    }

    /// Moves behind a record under application keys, and returns its number.
    fn pass(&mut self, (generation, sequence): (u32, u64), opened: &Opened) -> u64 {
        let number = self.number;
        *self = Self {
            phase: Phase::Application,
            generation,
            sequence: sequence + 1,
            number: number + 1,
            updates: is_key_update(opened),
            unopened: 0,
        };
        number
    }
}

/// Whether a record ends in a KeyUpdate (RFC 8446, 4.6.3), which is the last message of its record.
fn is_key_update(opened: &Opened) -> bool {
    const HANDSHAKE: u8 = ContentType::Handshake as u8;
    opened.content_type == HANDSHAKE && matches!(opened.content[..], [.., 24, 0, 0, 1, 0 | 1])
}

impl Tcp {
    /// Why nothing more is decrypted, if that is so.
    pub(super) fn over(&self) -> Option<Skipped> {
        self.over
    }

    pub(super) fn give_up(&mut self, why: Skipped) {
        *self = Self { over: Some(why), ..Self::default() };
    }

    /// Bytes that are kept.
    pub(super) fn memory(&self) -> usize {
        self.buffers.iter().chain(&self.messages).map(Vec::capacity).sum()
    }

    /// Whether the ClientHello has arrived.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.role, Role::Unknown)
    }

    /// Takes bytes of one direction, and passes on the records that they complete.
    pub(super) fn handle(
        &mut self,
        sender: Side,
        bytes: &[u8],
        sessions: &mut Sessions<'_>,
        mut on_record: impl FnMut(&mut Sessions<'_>, Decrypted),
    ) {
        if self.over.is_some() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffers[sender as usize]);
        buffer.extend_from_slice(bytes);
        let mut rest = &buffer[..];
        let outcome = loop {
            let header = match RecordHeader::parse(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break Ok(()),
                Err(_) if !self.has_begun() => break Err(Skipped::NoClientHello),
                Err(_) => break Err(Skipped::BadRecord),
            };
            let Some((record, behind)) = rest.split_at_checked(header.record_len()) else { break Ok(()) };
            rest = behind;
            match self.handle_record(sender, header.content_type, record, sessions) {
                Ok(Some(decrypted)) => on_record(sessions, decrypted),
                Ok(None) => {}
                Err(why) => break Err(why),
            }
        };
        match outcome {
            Ok(()) => {
                let kept = rest.len();
                buffer.drain(..buffer.len() - kept);
                if buffer.is_empty() {
                    buffer = Vec::new();
                }
                self.buffers[sender as usize] = buffer;
            }
            Err(why) => self.give_up(why),
        }
    }

    fn handle_record(
        &mut self,
        sender: Side,
        content_type: ContentType,
        record: &[u8],
        sessions: &mut Sessions<'_>,
    ) -> Result<Option<Decrypted>, Skipped> {
        match (content_type, &mut self.role) {
            (ContentType::Handshake, _) => {
                self.handle_plaintext(sender, &record[HEADER_LEN..], sessions)?;
                Ok(None)
            }
            (_, Role::Unknown) => Err(Skipped::NoClientHello),
            (ContentType::Alert, Role::Join(_)) if sender == Side::Server => Err(Skipped::Refused),
            (ContentType::ApplicationData, Role::First(first)) => first.handle(sender, record, sessions),
            (ContentType::ApplicationData, Role::Join(join)) => join.handle(sender, record, sessions),
            _ => Ok(None),
        }
    }

    /// Handshake messages in plaintext: the hellos.
    fn handle_plaintext(&mut self, sender: Side, bytes: &[u8], sessions: &mut Sessions<'_>) -> Result<(), Skipped> {
        let mut messages = std::mem::take(&mut self.messages[sender as usize]);
        messages.extend_from_slice(bytes);
        if messages.len() > MAX_HELLO {
            return Err(Skipped::BadRecord);
        }
        let mut rest = &messages[..];
        while let Some((ty, body, behind)) = split_message(rest) {
            rest = behind;
            match (sender, ty) {
                (Side::Client, CLIENT_HELLO) => self.handle_client_hello(body, sessions)?,
                (Side::Server, SERVER_HELLO) => self.handle_server_hello(body, sessions)?,
                _ => return Err(if self.has_begun() { Skipped::BadRecord } else { Skipped::NoClientHello }),
            }
        }
        let handled = messages.len() - rest.len();
        messages.drain(..handled);
        if messages.is_empty() {
            messages = Vec::new();
        }
        self.messages[sender as usize] = messages;
        Ok(())
    }

    fn handle_client_hello(&mut self, body: &[u8], sessions: &mut Sessions<'_>) -> Result<(), Skipped> {
        // Behind a HelloRetryRequest there is another, with the same random bytes.
        if self.has_begun() {
            return Ok(());
        }
        let hello = ClientHello::parse(body).ok_or(Skipped::NoClientHello)?;
        let by_token = hello.token.or(hello.ticket).and_then(|token| sessions.find(&token));
        self.role = if by_token.is_some() || hello.token.is_some() {
            Role::Join(Join { identity: by_token, client: None, server: None, unopened: 0 })
        } else if let Some(secrets) = sessions.secrets(&hello.random) {
            Role::First(Box::new(First {
                random: hello.random,
                secrets: secrets.clone(),
                early: None,
                suite: None,
                session: None,
                client: Position::at(Phase::Early),
                server: Position::at(Phase::Handshake),
            }))
        } else if hello.ticket.is_some() {
            // It may be a join that is a resumption.
            Role::Join(Join { identity: None, client: None, server: None, unopened: 0 })
        } else {
            return Err(Skipped::NoSecrets);
        };
        Ok(())
    }

    fn handle_server_hello(&mut self, body: &[u8], sessions: &mut Sessions<'_>) -> Result<(), Skipped> {
        let hello = ServerHello::parse(body).ok_or(Skipped::BadRecord)?;
        match &mut self.role {
            Role::First(first) if !hello.is_retry && first.session.is_none() => {
                let suite = Suite::from_code(hello.suite).ok_or(Skipped::NotTcpls)?;
                first.suite = Some(suite);
                first.session = Some(sessions.open(&first.random, suite).ok_or(Skipped::NoSecrets)?);
                Ok(())
            }
            Role::Unknown => Err(Skipped::NoClientHello),
            _ => Ok(()),
        }
    }
}

impl First {
    fn handle(
        &mut self,
        sender: Side,
        record: &[u8],
        sessions: &mut Sessions<'_>,
    ) -> Result<Option<Decrypted>, Skipped> {
        let position = if sender == Side::Client { self.client } else { self.server };
        if position.phase <= Phase::Early
            && let Some(opened) = self.open_early(position.sequence, record)
        {
            self.client.sequence += 1;
            // EndOfEarlyData is a handshake message.
            let is_data = opened.content_type == ContentType::ApplicationData as u8;
            let session = self.session_of_early_data(sessions).filter(|_| is_data);
            return Ok(session.map(|session| Decrypted {
                session,
                tcp: ConnectionId::FIRST,
                number: None,
                generation: 0,
                opened,
            }));
        }
        if position.phase <= Phase::Handshake {
            let sequence = if position.phase == Phase::Handshake { position.sequence } else { 0 };
            if let Some(opened) = self.open_handshake(sender, sequence, record) {
                *self.position(sender) = Position { sequence: sequence + 1, ..Position::at(Phase::Handshake) };
                self.handle_flight(sender, sequence, &opened, sessions)?;
                return Ok(None);
            }
        }
        self.handle_application(sender, position, record, sessions)
    }

    fn position(&mut self, sender: Side) -> &mut Position {
        if sender == Side::Client { &mut self.client } else { &mut self.server }
    }

    /// The suite of early data is that of the ticket; the secret has the length of its hash.
    fn open_early(&mut self, sequence: u64, record: &[u8]) -> Option<Opened> {
        if let Some(keys) = &self.early {
            return keys.open(ConnectionId::FIRST, sequence, record);
        }
        let secret = self.secrets.client_early.as_deref()?;
        suites(secret).iter().find_map(|&suite| {
            let keys = Secret::new(suite, secret)?.keys()?;
            let opened = keys.open(ConnectionId::FIRST, sequence, record)?;
            (self.early, self.suite) = (Some(keys), Some(suite));
            Some(opened)
        })
    }

    /// Early data is accepted only under the suite of the ticket, so that the session has that.
    fn session_of_early_data(&mut self, sessions: &mut Sessions<'_>) -> Option<SessionIndex> {
        sessions.open(&self.random, self.suite?)
    }

    fn open_handshake(&self, sender: Side, sequence: u64, record: &[u8]) -> Option<Opened> {
        let secrets = &self.secrets;
        let secret = if sender == Side::Client { &secrets.client_handshake } else { &secrets.server_handshake };
        let keys = Secret::new(self.suite?, secret.as_deref()?)?.keys()?;
        keys.open(ConnectionId::FIRST, sequence, record)
    }

    /// The server's flight begins with EncryptedExtensions, which say whether TCPLS is used.
    fn handle_flight(
        &mut self,
        sender: Side,
        sequence: u64,
        opened: &Opened,
        sessions: &mut Sessions<'_>,
    ) -> Result<(), Skipped> {
        if (sender, sequence) != (Side::Server, 0) {
            return Ok(());
        }
        match (Agreed::parse(&opened.content), self.session) {
            (Some(Agreed { tcpls: false, .. }), _) => Err(Skipped::NotTcpls),
            (Some(Agreed { token: Some(token), .. }), Some(session)) => {
                sessions.insert(token, session, ConnectionId(1));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_application(
        &mut self,
        sender: Side,
        position: Position,
        record: &[u8],
        sessions: &mut Sessions<'_>,
    ) -> Result<Option<Decrypted>, Skipped> {
        let is_open = position.phase == Phase::Application;
        let start = if is_open { position } else { Position::at(Phase::Application) };
        if let Some(session) = self.session
            && let Some(found) = open_next(sessions, session, sender, ConnectionId::FIRST, start, record)
        {
            let (position, decrypted) = found;
            *self.position(sender) = position;
            return Ok(Some(decrypted));
        }
        let unopened = position.unopened + 1;
        self.position(sender).unopened = unopened;
        if is_open {
            return Err(Skipped::BadRecord);
        }
        if unopened > MAX_UNOPENED { Err(Skipped::NoSecrets) } else { Ok(None) }
    }
}

/// Opens the next record of a direction; returns where the direction is then.
fn open_next(
    sessions: &mut Sessions<'_>,
    session: SessionIndex,
    sender: Side,
    tcp: ConnectionId,
    mut position: Position,
    record: &[u8],
) -> Option<(Position, Decrypted)> {
    position.expected().into_iter().flatten().find_map(|(generation, sequence)| {
        let opened = sessions.open_record(session, sender, (tcp, generation, sequence), record)?;
        let number = Some(position.pass((generation, sequence), &opened));
        Some((position, Decrypted { session, tcp, number, generation, opened }))
    })
}

impl Join {
    fn handle(
        &mut self,
        sender: Side,
        record: &[u8],
        sessions: &mut Sessions<'_>,
    ) -> Result<Option<Decrypted>, Skipped> {
        let position = if sender == Side::Client { &mut self.client } else { &mut self.server };
        match (self.identity, *position) {
            (Some((session, tcp)), Some(here)) => {
                let found = open_next(sessions, session, sender, tcp, here, record).ok_or(Skipped::BadRecord)?;
                *position = Some(found.0);
                Ok(Some(found.1))
            }
            (Some((session, tcp)), None) => match sessions.open_first(session, sender, tcp, record) {
                Some((generation, opened)) => Ok(Some(begin(position, session, tcp, generation, opened))),
                None => self.count_unopened(),
            },
            (None, _) if sender == Side::Client => match sessions.search(record) {
                Some(found) => {
                    self.identity = Some((found.session, found.tcp));
                    Ok(Some(begin(position, found.session, found.tcp, found.generation, found.opened)))
                }
                None => Err(Skipped::UnknownToken),
            },
            // The rest of the server's handshake, in a join that is a resumption.
            (None, _) => self.count_unopened(),
        }
    }

    fn count_unopened(&mut self) -> Result<Option<Decrypted>, Skipped> {
        self.unopened += 1;
        if self.unopened > MAX_UNOPENED { Err(Skipped::Refused) } else { Ok(None) }
    }
}

/// The first record of a direction of a join.
fn begin(
    position: &mut Option<Position>,
    session: SessionIndex,
    tcp: ConnectionId,
    generation: u32,
    opened: Opened,
) -> Decrypted {
    let mut here = Position::at(Phase::Application);
    let number = Some(here.pass((generation, 0), &opened));
    *position = Some(here);
    Decrypted { session, tcp, number, generation, opened }
}

#[cfg(test)]
mod tests;
