//! rustls' buffered API on blocking sockets: tuned, with large reads and writes; and as `rustls::Stream`, the way most
//! programs use it.

use std::io::{BufRead, Read, Write};

use rustls::{ClientConnection, ServerConnection, Stream};

use super::bare::{next_piece, wait_for_end};
use super::{BATCH, Job, SMALL, Sample, accept, connect, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::{PROTOCOL, server_name};

/// 256 KiB are written at once and sealed before any of it is sent; as much is read at once and fed from memory.
pub fn tuned(job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is, mut meter: Meter| {
        let mut socket = accept(&address_is)?;
        let mut tls = ServerConnection::new(server)?;
        tls.complete_io(&mut socket)?;
        let mut buffer = vec![0; BATCH];
        while meter.left() > 0 {
            let len = socket.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            let mut rest = &buffer[..len];
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                tls.process_new_packets()?;
                let mut reader = tls.reader();
                while let Ok(data @ [_, ..]) = reader.fill_buf() {
                    let len = data.len();
                    meter.moved(len);
                    reader.consume(len);
                }
            }
        }
        Ok(meter)
    };
    two_ends(job, receive, |address, mut meter| {
        let mut socket = connect(address)?;
        let mut tls = ClientConnection::new(client, server_name())?;
        tls.complete_io(&mut socket)?;
        tls.set_buffer_limit(None);
        while meter.left() > 0 {
            let piece = next_piece(meter.left(), BATCH);
            tls.writer().write_all(piece)?;
            while tls.wants_write() {
                tls.write_tls(&mut socket)?;
            }
            meter.moved(piece.len());
        }
        wait_for_end(&mut socket);
        meter.finish();
        Ok(meter)
    })
}

/// 16 KiB at once.
pub fn stream(job: &Job) -> Outcome<Sample> {
    let (client, server) = (job.tls.client(PROTOCOL)?, job.tls.server(PROTOCOL)?);
    let receive = |address_is, mut meter: Meter| {
        let mut socket = accept(&address_is)?;
        let mut tls = ServerConnection::new(server)?;
        let mut stream = Stream::new(&mut tls, &mut socket);
        let mut buffer = vec![0; SMALL];
        while meter.left() > 0 {
            match stream.read(&mut buffer)? {
                0 => break,
                len => meter.moved(len),
            }
        }
        Ok(meter)
    };
    two_ends(job, receive, |address, mut meter| {
        let mut socket = connect(address)?;
        let mut tls = ClientConnection::new(client, server_name())?;
        let mut stream = Stream::new(&mut tls, &mut socket);
        while meter.left() > 0 {
            let piece = next_piece(meter.left(), SMALL);
            stream.write_all(piece)?;
            meter.moved(piece.len());
        }
        wait_for_end(&mut socket);
        meter.finish();
        Ok(meter)
    })
}
