//! Any plaintext decodes to frames or an error; what decodes encodes to the same bytes again.

use tcpls_core::wire::frame::Frames;

/// The target `frame`: the input is the content of a record.
pub fn frame(plaintext: &[u8]) {
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
}
