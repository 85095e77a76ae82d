//! Any plaintext decodes to frames or an error; what decodes encodes to the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tcpls_core::wire::frame::Frames;

fuzz_target!(|plaintext: &[u8]| {
    let frames: Result<Vec<_>, _> = Frames::new(plaintext).collect();
    if let Ok(frames) = frames {
        let mut again = Vec::new();
        for frame in frames.iter().rev() {
            let before = again.len();
            frame.encode(&mut again);
            assert_eq!(again.len() - before, frame.encoded_len());
        }
        assert_eq!(again, plaintext);
    }
});
