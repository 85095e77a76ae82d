//! What a socket is, and how that changes.

use std::collections::BTreeSet;

use bytes::BytesMut;

use super::{Role, Session, SessionKey, Sessions, Socket, SocketId};
use crate::connection::{Claim, Connection};
use crate::endpoint::{Endpoint, Incoming, NewSession};
use crate::event::{Event, TcpEvent};
use crate::time::Time;
use crate::wire::ids::ConnectionId;

impl Sessions {
    pub(super) fn add(&mut self, role: Role) -> SocketId {
        let id = SocketId(self.next);
        self.next += 1;
        self.sockets.insert(id, Socket { role, input: BytesMut::new(), out: Vec::new() });
        id
    }

    /// The socket is TCP connection 0 of a session that begins.
    pub(super) fn begin(&mut self, socket: SocketId, conn: Connection) -> SessionKey {
        let key = SessionKey(self.next);
        self.next += 1;
        let (id, sockets) = (conn.session_id(), BTreeSet::from([socket]));
        id.into_iter().for_each(|id| _ = self.by_id.insert(id, key));
        self.sessions.insert(key, Session { conn, id, sockets, deadline: None });
        self.sockets.get_mut(&socket).into_iter().for_each(|socket| socket.role = Role::Tcp(key, ConnectionId::FIRST));
        self.touched.insert(key);
        key
    }

    /// A socket was recognized by its first bytes.
    pub(super) fn recognize(&mut self, now: Time, id: SocketId, known: Incoming) -> Option<NewSession> {
        let socket = self.sockets.get_mut(&id)?;
        match known {
            Incoming::New(new) => {
                socket.role = Role::New;
                return Some(new);
            }
            Incoming::Refused { alert } => socket.end_with(&alert),
            // A driver that passes joins on calls the endpoint itself.
            Incoming::Foreign(join) => match self.endpoint.as_mut()?.decline_foreign_join(&join) {
                Ok(new) => {
                    socket.role = Role::New;
                    return Some(new);
                }
                Err(alert) => socket.end_with(&alert),
            },
            Incoming::Join(join) => {
                let key = self.by_id.get(&join.session()).copied();
                let session = key.and_then(|key| Some((key, self.sessions.get_mut(&key)?)));
                let Some((key, session)) = session.filter(|(_, session)| !session.conn.turns_away(&join)) else {
                    match self.endpoint.as_mut()?.decline_join(join, &mut socket.input) {
                        Ok(new) => {
                            socket.role = Role::New;
                            return Some(new);
                        }
                        Err(alert) => socket.end_with(&alert),
                    }
                    return None;
                };
                socket.role = Role::Claim(key, session.conn.handle_join(now, join));
                session.sockets.insert(id);
                self.settle_session(now, key);
            }
        }
        None
    }

    /// Takes the events of a session, and applies what it has decided about its sockets.
    pub(super) fn settle_session(&mut self, now: Time, key: SessionKey) {
        self.touched.remove(&key);
        let Some(Session { conn, sockets, deadline, .. }) = self.sessions.get_mut(&key) else { return };
        // Also without new bytes: those that arrived before the handshake was complete are processed after it.
        sockets.retain(|id| {
            let Some(socket) = self.sockets.get_mut(id) else { return false };
            let Role::Claim(_, claim) = socket.role else { return true };
            match conn.handle_claim_bytes(now, claim, &mut socket.input) {
                Claim::Waiting => {}
                Claim::Authenticated(tcp) => socket.role = Role::Tcp(key, tcp),
                Claim::Refused => {
                    let mut alert = Vec::new();
                    conn.poll_claim_transmit(claim, &mut alert);
                    socket.end_with(&alert);
                }
            }
            !matches!(socket.role, Role::Over)
        });
        while let Some(event) = conn.poll_event() {
            if let Event::Tcp(TcpEvent::Discarded { tcp: discarded }) = event {
                sockets.retain(|id| {
                    let Some(socket) = self.sockets.get_mut(id) else { return false };
                    let is_it = matches!(socket.role, Role::Tcp(_, tcp) if tcp == discarded);
                    if is_it {
                        let mut last = Vec::new();
                        conn.poll_transmit(now, discarded, usize::MAX, &mut last);
                        socket.end_with(&last);
                    }
                    !is_it
                });
            }
            self.events.push_back((key, event));
        }
        let next = conn.poll_timeout();
        if *deadline != next {
            deadline.iter().for_each(|old| _ = self.deadlines.remove(&(*old, key)));
            next.into_iter().for_each(|new| _ = self.deadlines.insert((new, key)));
            *deadline = next;
        }
    }

    pub(super) fn take_refused(&mut self) {
        while let Some((incoming, alert)) = self.endpoint.as_mut().and_then(Endpoint::poll_refused) {
            let socket = self.incoming.remove(&incoming).and_then(|id| self.sockets.get_mut(&id));
            socket.into_iter().for_each(|socket| socket.end_with(&alert));
        }
    }
}
