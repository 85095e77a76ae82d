//! TCP alone, and records with nothing above them, on blocking sockets.

use std::io::{Read, Write};

use super::{BATCH, DATA, Job, Sample, accept, connect, two_ends};
use crate::Outcome;
use crate::records::{Opener, Sealer};

/// Pending bytes.
pub fn next_piece(left: u64, most: usize) -> &'static [u8] {
    &DATA[..usize::try_from(left).unwrap_or(most).min(most)]
}

/// Plain TCP.
pub fn tcp(job: &Job) -> Outcome<Sample> {
    let receive = |address_is, mut meter: crate::meter::Meter| {
        let mut socket = accept(&address_is)?;
        let mut buffer = vec![0; BATCH];
        while meter.left() > 0 {
            match socket.read(&mut buffer)? {
                0 => break,
                len => meter.moved(len),
            }
        }
        Ok(meter)
    };
    two_ends(job, receive, |address, mut meter| {
        let mut socket = connect(address)?;
        while meter.left() > 0 {
            let piece = next_piece(meter.left(), BATCH);
            socket.write_all(piece)?;
            meter.moved(piece.len());
        }
        wait_for_end(&mut socket);
        meter.finish();
        Ok(meter)
    })
}

/// Bare records.
pub fn records(job: &Job) -> Outcome<Sample> {
    let receive = |address_is, mut meter: crate::meter::Meter| {
        let mut socket = accept(&address_is)?;
        let mut opener = Opener::new();
        let (mut buffer, mut start, mut end) = (vec![0; 2 * BATCH], 0, 0);
        while meter.left() > 0 {
            match socket.read(&mut buffer[end..])? {
                0 => break,
                len => end += len,
            }
            while let Some((record, content)) = opener.open(&mut buffer[start..end])? {
                start += record;
                meter.moved(content);
            }
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        Ok(meter)
    };
    two_ends(job, receive, |address, mut meter| {
        let mut socket = connect(address)?;
        let (mut sealer, mut out) = (Sealer::new(), Vec::new());
        while meter.left() > 0 {
            let piece = next_piece(meter.left(), BATCH);
            out.clear();
            sealer.seal(piece, &mut out);
            socket.write_all(&out)?;
            meter.moved(piece.len());
        }
        wait_for_end(&mut socket);
        meter.finish();
        Ok(meter)
    })
}

/// The receiver closes when everything is there. It may have something to say before, or nothing at all.
pub fn wait_for_end(socket: &mut impl Read) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).is_ok_and(|len| len > 0) {}
}
