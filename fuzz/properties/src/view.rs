//! Traces that a page is made of, as any bytes: they are a page or an error, however they arrive.

use std::io::Write;

use tcpls_harness::view::{Collector, Page};

/// The target `view`: the first byte is the size of pieces, the others are a trace.
pub fn view(bytes: &[u8]) {
    let Some((step, trace)) = bytes.split_first() else { return };
    let whole = Page::of_trace(trace);
    // What is no recording and no capture is a trace.
    let by_kind = Page::of_input(trace, None);
    match (&whole, &by_kind) {
        (Ok(whole), Ok(by_kind)) => assert_eq!(whole.events(), by_kind.events()),
        (Err(_), Err(_)) => {}
        _ => assert!(trace.starts_with(b"TCPLSREC"), "{whole:?} {by_kind:?}"),
    }
    let collector = Collector::default();
    let written = trace.chunks(usize::from(*step) + 1).try_for_each(|piece| collector.clone().write_all(piece));
    let in_pieces = collector.page();
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => {
            assert!(written.is_ok() && whole.events() > 0);
            let (whole, in_pieces) = (html(&whole), html(&in_pieces));
            assert!(whole == in_pieces, "the page depends on how the trace arrives");
            check(&whole, trace.len());
        }
        (Err(whole), Err(in_pieces)) => assert_eq!(whole.to_string(), in_pieces.to_string()),
        (whole, in_pieces) => panic!("{whole:?} {in_pieces:?}"),
    }
}

fn html(page: &Page) -> String {
    let mut html = Vec::new();
    page.write(&mut html).expect("memory can be written");
    String::from_utf8(html).expect("a page is UTF-8")
}

/// Nothing in a trace becomes markup, and the page is not out of proportion.
fn check(html: &str, len: usize) {
    assert_eq!(html.matches("<script").count(), 3);
    assert_eq!(html.matches("</script>").count(), 3);
    assert_eq!(html.matches("<img").count(), 0);
    let empty = 200_000; // scripts, style and markup
    assert!(html.len() < empty + 200 * len, "{} bytes of a trace of {len}", html.len());
}
