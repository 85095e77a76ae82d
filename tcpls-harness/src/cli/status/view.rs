//! The status of a command as a table, for a terminal of any width.

use std::net::SocketAddr;
use std::time::Duration;

use super::report::{Path, Rates, Session, Status, Stream};
use crate::cli::text::visible;
use crate::cli::units::size;

/// The width where there is no terminal.
const COLUMNS: usize = 80;
/// The columns of a path beside its addresses: interface, state, round trip, two rates, and what is between them.
const BESIDE: usize = 2 + 8 + 1 + 1 + 1 + 8 + 1 + 8 + 1 + 6 + 1 + 6;
/// The narrowest column of an address.
const MIN_ADDRESS: usize = 9;
/// Streams of a session that are shown.
const STREAMS: usize = 10;

/// The lines of a command's status. The sessions, paths and streams with the most traffic come first.
pub(super) fn lines(status: &Status, columns: Option<usize>) -> Vec<String> {
    let columns = columns.unwrap_or(COLUMNS);
    let mut status = status.clone();
    let traffic = |session: &Session| session.paths.iter().map(|path| path.rates.sum()).sum::<f64>();
    status.sessions.sort_by(|a, b| traffic(b).total_cmp(&traffic(a)).then(a.session.cmp(&b.session)));
    let uptime = duration(status.uptime_seconds);
    let mut lines = vec![format!(
        "tcpls {}, PID {}, up {uptime}: {}",
        status.command,
        status.pid,
        count(status.sessions_open, "session")
    )];
    let reason = status.no_session.iter().flat_map(|reason| reason.lines());
    lines.extend(reason.enumerate().map(|(index, line)| {
        let prefix = if index == 0 { "no session: " } else { "  " };
        format!("{prefix}{line}")
    }));
    for session in &mut status.sessions {
        lines.push(String::new());
        add_session(&mut lines, session, columns);
    }
    let hidden = status.sessions_open.saturating_sub(status.sessions.len());
    if hidden > 0 {
        lines.push(String::new());
        lines.push(format!("{} not shown", count(hidden, "more session")));
    }
    lines
}

/// A line for a command in a list of several.
pub(super) fn summary(status: &Status) -> String {
    let streams: usize = status.sessions.iter().map(|session| session.streams_open).sum();
    let (pid, command, uptime) = (status.pid, &status.command, duration(status.uptime_seconds));
    let (sessions, streams) = (count(status.sessions_open, "session"), count(streams, "stream"));
    format!("{pid:>8}  {command:<8}  up {uptime}, {sessions}, {streams}")
}

fn add_session(lines: &mut Vec<String>, session: &mut Session, columns: usize) {
    let protocol = if session.tcpls { "" } else { ", plain TLS 1.3" };
    let user = session.user.as_deref().map_or_else(String::new, |user| format!(" of {}", visible(user)));
    let age = session.age_seconds.map_or_else(|| "handshake".to_owned(), duration);
    let streams = count(session.streams_open, "stream");
    let (to_send, to_read) = (bytes(session.bytes_to_send), bytes(session.bytes_to_read));
    let stranded = match session.ends_in_seconds {
        Some(seconds) => format!(", no TCP connection, ends in {}", duration(seconds)),
        None if session.stranded => ", no TCP connection".to_owned(),
        None => String::new(),
    };
    let number = session.session;
    lines.push(format!(
        "session {number}{user}, {age}{protocol}{stranded}: {streams}, {to_send} to send, {to_read} to read"
    ));
    session.paths.sort_by(|a, b| busier(a.rates, b.rates).then(a.tcp.is_none().cmp(&b.tcp.is_none())));
    add_paths(lines, &session.paths, columns);
    session.streams.sort_by(|a, b| busier(a.rates, b.rates));
    add_streams(lines, session, columns);
}

/// More traffic comes first.
fn busier(a: Rates, b: Rates) -> std::cmp::Ordering {
    b.sum().total_cmp(&a.sum())
}

fn add_paths(lines: &mut Vec<String>, paths: &[Path], columns: usize) {
    let widest = |address: fn(&Path) -> Option<SocketAddr>| {
        paths.iter().map(|path| shown(address(path)).chars().count()).max().unwrap_or(0).max(MIN_ADDRESS)
    };
    let room = columns.saturating_sub(BESIDE + 1);
    let (local, remote) = share(room, widest(host), widest(|path| path.remote));
    let line = |[interface, from, to, state, rtt, out, into]: [&str; 7]| {
        let (interface, from, to) = (cut(interface, 8), cut(from, local), cut(to, remote));
        format!("  {interface:<8} {from:<local$} {to:<remote$} {state:<8} {rtt:>8} {out:>6} {into:>6}")
    };
    lines.push(line(["IF", "LOCAL", "REMOTE", "STATE", "RTT", "OUT/s", "IN/s"]));
    for path in paths {
        let (from, to) = (shown(host(path)), shown(path.remote));
        let rtt = path.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1} ms"));
        let interface = path.interface.as_deref().unwrap_or("-");
        let [out, into] = rates(path.rates);
        lines.push(line([interface, &from, &to, &path.state, &rtt, &out, &into]));
        let mut more = Vec::new();
        if let Some(tcp) = path.tcp {
            more.push(format!("tcp {tcp}: {} out, {} in", size(path.bytes_sent), size(path.bytes_received)));
        }
        if let Some(loss) = &path.last_loss {
            more.push(format!("tcp {} lost {} ago: {}", loss.tcp, duration(loss.seconds_ago), loss.cause));
        }
        // Below one another where they don't fit side by side.
        let joined = format!("           {}", more.join("; "));
        if more.is_empty() {
            continue;
        }
        if joined.chars().count() < columns {
            lines.push(joined);
        } else {
            lines.extend(more.iter().map(|more| format!("           {more}")));
        }
    }
}

fn add_streams(lines: &mut Vec<String>, session: &Session, columns: usize) {
    if session.streams.is_empty() {
        return;
    }
    let target = columns.saturating_sub(2 + 8 + 1 + 1 + 10 + 1 + 6 + 1 + 6 + 1);
    let line = |[stream, name, unacknowledged, out, into]: [&str; 5]| {
        let name = cut(name, target);
        format!("  {stream:<8} {name:<target$} {unacknowledged:>10} {out:>6} {into:>6}")
    };
    lines.push(line(["STREAM", "TARGET", "UNACKED", "OUT/s", "IN/s"]));
    for stream in session.streams.iter().take(STREAMS) {
        let Stream { target, bytes_unacknowledged, .. } = stream;
        let [out, into] = rates(stream.rates);
        let name = target.as_deref().unwrap_or("-");
        lines.push(line([&stream.stream.to_string(), name, &bytes(*bytes_unacknowledged), &out, &into]));
    }
    let hidden = session.streams_open.saturating_sub(session.streams.len().min(STREAMS));
    if hidden > 0 {
        lines.push(format!("  {} not shown", count(hidden, "more stream")));
    }
}

/// Divides `room` between two columns; what one does not need, the other gets.
fn share(room: usize, first: usize, second: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let half = (room / 2).max(MIN_ADDRESS);
    if first <= half {
        (first, room.saturating_sub(first).max(MIN_ADDRESS))
    } else if second <= half {
        (room.saturating_sub(second).max(MIN_ADDRESS), second)
    } else {
        (half, room.saturating_sub(half).max(MIN_ADDRESS))
    }
}

/// The text without its middle, if it is longer than `width`: its end has the port.
fn cut(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width || width < 3 {
        return text.chars().take(width).collect();
    }
    let begin = (width - 1) / 2;
    let end: String = text.chars().skip(len - (width - 1 - begin)).collect();
    text.chars().take(begin).collect::<String>() + "…" + &end
}

/// The local address without its port, which says little.
fn host(path: &Path) -> Option<SocketAddr> {
    path.local.map(|local| SocketAddr::new(local.ip(), 0))
}

/// An address; without a port where there is none.
fn shown(address: Option<SocketAddr>) -> String {
    match address {
        None => "-".to_owned(),
        Some(address) if address.port() == 0 => address.ip().to_string(),
        Some(address) => address.to_string(),
    }
}

fn rates(rates: Rates) -> [String; 2] {
    [rates.bits_per_second_sent, rates.bits_per_second_received].map(|rate| rate.map_or_else(|| "-".to_owned(), short))
}

/// Bits per second in at most six characters: `1.25M`.
fn short(bits_per_second: f64) -> String {
    let (mut value, mut unit) = (bits_per_second, "");
    for next in ["k", "M", "G", "T"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1e3, next);
    }
    match value {
        _ if unit.is_empty() => format!("{value:.0}"),
        value if value < 9.995 => format!("{value:.2}{unit}"),
        value if value < 99.95 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

fn bytes(bytes: usize) -> String {
    size(bytes as u64)
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Seconds as `12 s`, `3 min` or `2 h 5 min`.
fn duration(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = include_str!("testdata/before.json");
    const AFTER: &str = include_str!("testdata/after.json");

    fn status() -> Status {
        let before: Status = serde_json::from_str(BEFORE).unwrap();
        let mut after: Status = serde_json::from_str(AFTER).unwrap();
        after.add_rates(&before);
        after
    }

    #[test]
    fn view_fits_80_columns_and_sorts_by_traffic() {
        let text = lines(&status(), Some(80)).join("\n") + "\n";
        assert_eq!(text, include_str!("testdata/view-80.txt"), "\n{text}");
        assert!(text.lines().all(|line| line.chars().count() < 80), "\n{text}");
    }

    #[test]
    fn session_without_a_network_shows_when_it_ends() {
        let mut status = status();
        status.sessions[0].ends_in_seconds = Some(725.5);
        let text = lines(&status, None).join("\n");
        assert!(text.contains("session 0, 12 min, no TCP connection, ends in 12 min: 0 streams"), "{text}");
    }

    #[test]
    fn view_names_the_user_of_a_session_and_says_why_there_is_none() {
        let mut status = status();
        status.sessions[0].user = Some("ann\u{1b}".to_owned());
        status.no_session = Some("192.0.2.1:443: refused\nanother".to_owned());
        let text = lines(&status, None).join("\n");
        assert!(text.contains("session 0 of ann\\u{1b}, 12 min"), "{text}");
        assert!(text.contains(" sessions\nno session: 192.0.2.1:443: refused\n  another\n\n"), "{text}");
    }

    #[test]
    fn addresses_are_whole_where_the_terminal_is_wide() {
        let text = lines(&status(), Some(140)).join("\n");
        assert!(text.contains(" 2001:db8:1234:5678:9abc:def0:1234:5678 "), "{text}");
        for columns in [1, 20, 40, 60] {
            lines(&status(), Some(columns));
        }
    }

    #[test]
    fn rates_have_at_most_six_characters() {
        let rates = [0.0, 12.0, 999.0, 999.6, 12_345.0, 999_960.0, 1.25e6, 99.96e6, 37e9, 1e15];
        let shown = ["0", "12", "999", "1.00k", "12.3k", "1.00M", "1.25M", "100M", "37.0G", "1000T"];
        assert_eq!(rates.map(short), shown);
    }
}
