//! Pages that show traces: what is in them, and what a browser makes of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tcpls_harness::sim::{RunOptions, Scenario, run};
use tcpls_harness::view::{Collector, Page};

use crate::support::Directory;

/// The page of a scenario that is shipped, run with seed 1.
fn page_of(scenario: &str) -> Page {
    let file = format!("{}/scenarios/{scenario}.toml", env!("CARGO_MANIFEST_DIR"));
    let scenario = Scenario::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    let collector = Collector::default();
    run(&scenario, 1, RunOptions { trace: Some(Box::new(collector.clone())), hash: false, ..RunOptions::default() });
    collector.page().unwrap()
}

fn written(page: &Page) -> String {
    let mut html = Vec::new();
    page.write(&mut html).unwrap();
    String::from_utf8(html).unwrap()
}

/// The JSON in a page.
fn description(page: &Page) -> Value {
    let html = written(page);
    let (_, rest) = html.split_once("<script id=\"description\" type=\"application/json\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn summary_of_a_simulated_outage_names_cause_and_effect() {
    let description = description(&page_of("demo"));
    assert_eq!(description["title"], "64 MiB over two paths, one of which fails");
    assert_eq!(description["paths"], serde_json::json!({ "0": "a", "1": "b" }));
    let sentences = texts(&description["sessions"][0]["summary"]).join(" ");
    for part in [
        "The client received 64.0 MiB from the server in ",
        "It went over 3 TCP connections: ",
        " % over number 0 (path a), ",
        "The network failed on purpose: down on path a (from 2.900 s to 5.400 s).",
        "TCP connection 0 (path a) was lost at 2.9",
        " went out again on other TCP connections, because",
        "All data of the stream arrived; the longest wait for new data was ",
        ": closed by the client (no error).",
    ] {
        assert!(sentences.contains(part), "{part} in {sentences}");
    }
    let story: Vec<&str> =
        description["story"].as_array().unwrap().iter().map(|moment| moment[5].as_str().unwrap()).collect();
    let place = |text: &str| {
        story.iter().position(|moment| moment.starts_with(text)).unwrap_or_else(|| panic!("{text}: {story:?}"))
    };
    assert!(place("Path a goes down") < place("The client loses TCP connection 0"));
    assert!(place("The client loses TCP connection 0") < place("TCP connection 2"));
}

#[test]
fn each_session_of_a_simulation_has_its_own_page() {
    let description = description(&page_of("three-clients"));
    let sessions = description["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    for session in sessions {
        let hosts: Vec<&str> = session["ends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|end| description["ends"][end.as_u64().unwrap() as usize]["host"].as_str().unwrap())
            .collect();
        assert!(
            hosts.len() == 2 && hosts.contains(&"server") && hosts.iter().any(|host| host.starts_with("client")),
            "{hosts:?}"
        );
    }
}

/// A trace of `events` events, in which every number is known: records of 100 bytes in turn on two TCP connections. In the
/// middle TCP connection 0 stalls, its last record is sent again on TCP connection 1, and then it is lost.
fn made_up(events: usize) -> String {
    let mut text = String::new();
    let record = |text: &mut String, t: usize, tcp: usize, number: usize, seq: usize| {
        let (start, end) = (number * 100, number * 100 + 100);
        _ = writeln!(
            text,
            r#"{{"t":{t},"at":"server","session":0,"what":"record-sent","tcp":{tcp},"seq":{seq},"bytes":129,"content":{{"frames":[{{"type":"stream","id":4,"start":{start},"end":{end},"fin":false}}]}}}}"#
        );
    };
    let records = events - 4;
    let half = records / 2 / 2 * 2;
    let (mut seqs, step) = ([0; 2], 1000);
    let mut next = |tcp: usize| {
        seqs[tcp] += 1;
        seqs[tcp] - 1
    };
    for number in 0..half {
        record(&mut text, number * step, number % 2, number, next(number % 2));
    }
    let t = half * step;
    _ = writeln!(
        text,
        r#"{{"t":{t},"at":"server","session":0,"what":"stalled","tcp":0,"owed_since":0,"in_flight":129}}"#
    );
    _ = writeln!(text, r#"{{"t":{t},"at":"server","session":0,"what":"hedged","tcp":0,"bytes":100}}"#);
    record(&mut text, t, 1, half - 2, next(1));
    _ = writeln!(text, r#"{{"t":{},"at":"server","session":0,"what":"lost","tcp":0,"fault":"reset"}}"#, t + 500);
    for number in half..records {
        record(&mut text, (number + 1) * step, 1, number, next(1));
    }
    text
}

/// A page of `events` events, in a file.
fn file_of(directory: &Directory, events: usize) -> PathBuf {
    let file = directory.path().join(format!("{events}.html"));
    let page = Page::of_trace(made_up(events).as_bytes()).unwrap();
    assert_eq!(page.events(), events);
    let mut html = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    page.title("made up").write(&mut html).unwrap();
    file
}

/// With separators, as the page has numbers.
fn separated(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

#[cfg(unix)]
mod shown {
    use super::*;
    use crate::browser::Browser;

    /// Opens a page of `events` events, and compares what it shows with what is known.
    fn check_numbers(browser: &mut Browser, directory: &Path, file: &Path, events: usize) {
        let records = events - 4;
        let half = records / 2 / 2 * 2;
        browser.open(file, &format!("event={}", half + 3));
        assert_eq!(browser.complaints, [] as [String; 0], "{}", directory.display());
        assert_eq!(browser.text("h1"), "made up");
        assert!(browser.text("#subtitle").contains(&format!("{} events", separated(events))));
        let rows = browser.table("#totals");
        assert_eq!(rows.len(), 2, "{rows:?}");
        let of_0 = half / 2;
        assert_eq!([&rows[0][0], &rows[0][3]], ["TCP 0", &separated(of_0)]);
        assert_eq!([&rows[1][0], &rows[1][3]], ["TCP 1", &separated(records + 1 - of_0)]);
        assert!(rows[0][9].starts_with("lost at ") && rows[0][9].ends_with(": reset"), "{rows:?}");
        assert_eq!((rows[0][8].split(' ').next(), &*rows[1][8]), (Some("1"), "–"));
        assert_eq!(
            browser.text("#again"),
            "Of the stream data from server to client, beyond what was new: 100 B hedged."
        );
        // The selected event is the record that was sent again; the state beside it is that of its moment.
        assert_eq!(browser.text("#event h3"), format!("Record {} sent on TCP 1", half - of_0));
        assert!(browser.text("#event dl").contains("stalled (hedged)"));
        let state = browser.table("#state");
        assert_eq!([&*state[0][1], &*state[0][3], &*state[0][5]], ["joining, stalled", "129 B", &separated(of_0 - 1)]);
        assert_eq!(state[1][5], separated(half - of_0));
        browser.press("n");
        assert_eq!(browser.text("#event h3"), "TCP 0 is lost");
        assert_eq!(browser.table("#state")[0][1], "lost: reset");
        browser.press("p");
        browser.press("p");
        assert!(
            browser.text("#event h3").starts_with("Data of TCP 0 becomes pending"),
            "{}",
            browser.text("#event h3")
        );
        assert_eq!(browser.table("#state")[1][5], separated(half - of_0 - 1));
        assert_eq!(browser.complaints, [] as [String; 0]);
    }

    /// The number of pixels of the canvas, in a part of its height, that have none of the colors of the background.
    fn painted(browser: &mut Browser) -> u64 {
        let count = "(() => {
            const canvas = document.getElementById('canvas');
            const pixels = new Uint32Array(canvas.getContext('2d').getImageData(148, 0, canvas.width - 214, canvas.height).data.buffer);
            const counts = new Map();
            for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
            return [...counts.values()].filter((count) => count < pixels.length / 20).reduce((sum, count) => sum + count, 0);
        })()";
        browser.value(count).as_u64().unwrap()
    }

    #[test]
    fn browser_shows_the_numbers_of_ten_and_of_ten_thousand_events() {
        let Some(mut browser) = Browser::start("view-numbers") else { return };
        let directory = Directory::new("view-numbers-pages");
        for events in [10, 10_000] {
            let file = file_of(&directory, events);
            check_numbers(&mut browser, directory.path(), &file, events);
            assert!(painted(&mut browser) > 1000);
        }
    }

    #[test]
    #[ignore = "takes 15 s without optimization; .ci/run includes it"]
    fn browser_shows_the_numbers_of_a_million_events() {
        let Some(mut browser) = Browser::start("view-million") else { return };
        let directory = Directory::new("view-million-pages");
        let file = file_of(&directory, 1_000_000);
        check_numbers(&mut browser, directory.path(), &file, 1_000_000);
        assert!(painted(&mut browser) > 1000);
        eprintln!("a million events: {}", browser.text("#footer"));
    }

    #[test]
    fn browser_shows_a_simulated_outage_without_a_complaint() {
        let Some(mut browser) = Browser::start("view-outage") else { return };
        let directory = Directory::new("view-outage-pages");
        let file = directory.path().join("page.html");
        std::fs::write(&file, written(&page_of("two-outages"))).unwrap();
        browser.open(&file, "");
        assert!(browser.text("#summary").contains("failed on purpose"));
        assert!(browser.value("document.querySelectorAll('#story button').length").as_u64().unwrap() > 4);
        let whole = painted(&mut browser);
        assert!(whole > 10_000, "{whole}");
        // Keys zoom; the address keeps the range.
        browser.press("+");
        assert!(browser.value("location.hash").as_str().unwrap().contains("from="));
        browser.press("0");
        assert!(!browser.value("location.hash").as_str().unwrap().contains("from="));
        // The mouse says what is below it, and selects.
        let place = browser.value("(() => { const box = document.getElementById('canvas').getBoundingClientRect(); return [box.x + box.width / 2, box.y + 150]; })()");
        let (x, y) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
        browser.mouse("mouseMoved", x, y);
        assert!(browser.text("#tip").contains("goodput"), "{}", browser.text("#tip"));
        browser.mouse("mousePressed", x, y);
        browser.mouse("mouseReleased", x, y);
        assert!(browser.value("location.hash").as_str().unwrap().contains("event="));
        browser.press("]");
        assert_eq!(browser.value("document.querySelectorAll('#story [aria-current]').length"), 1);
        // A TCP connection that is hidden has no row.
        let height =
            |browser: &mut Browser| browser.value("document.getElementById('canvas').height").as_u64().unwrap();
        let before = height(&mut browser);
        browser.value("document.querySelector('#tcps button').click(); new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)");
        assert!(height(&mut browser) < before);
        browser.press("t");
        browser.press("?");
        assert_eq!(browser.value("document.getElementById('help').open"), true);
        assert_eq!(browser.complaints, [] as [String; 0]);
    }

    /// A trace of one end with this number of TCP connections, each of which carries two records; the last is lost.
    fn many_lanes(count: usize) -> String {
        let mut text = String::new();
        for number in 0..2 * count {
            let (tcp, start) = (number % count, number * 100);
            _ = writeln!(
                text,
                r#"{{"t":{},"what":"record-sent","tcp":{tcp},"seq":0,"bytes":129,"content":{{"frames":[{{"type":"stream","id":0,"start":{start},"end":{},"fin":false}}]}}}}"#,
                number * 1000,
                start + 100
            );
        }
        text + &format!(r#"{{"t":{},"what":"lost","tcp":{},"fault":"reset"}}"#, 2000 * count, count - 1)
    }

    #[test]
    fn chart_of_a_thousand_tcp_connections_is_drawn_where_one_looks() {
        let Some(mut browser) = Browser::start("view-lanes") else { return };
        let directory = Directory::new("view-lanes-pages");
        let file = directory.path().join("page.html");
        std::fs::write(&file, written(&Page::of_trace(many_lanes(1000).as_bytes()).unwrap())).unwrap();
        browser.open(&file, "theme=light");
        let number = |browser: &mut Browser, what: &str| browser.value(what).as_f64().unwrap();
        assert_eq!(browser.table("#totals").len(), 1000);
        // Overview, time, goodput and the rows before TCP connection 990.
        let above = 40 + 26 + 150 + 104 * 990;
        let top = number(&mut browser, "document.getElementById('chart').getBoundingClientRect().top + scrollY") as i64;
        let drawn = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)";
        browser.value(&format!("scrollTo(0, {}); {drawn}", top + above - 500));
        let height = number(&mut browser, "document.getElementById('canvas').height");
        assert!(height <= number(&mut browser, "innerHeight"), "{height}");
        // The strip on the left has the color of its TCP connection.
        let strip =
            "[...document.getElementById('canvas').getContext('2d').getImageData(2, 550, 1, 1).data].slice(0, 3)";
        assert_eq!(browser.value(strip), serde_json::json!([0x00, 0x61, 0xa8]));
        browser.mouse("mouseMoved", 600.0, 550.0);
        assert!(browser.text("#tip").contains("TCP 990"), "{}", browser.text("#tip"));
        // What is selected with a key comes into sight.
        browser.value(&format!("scrollTo(0, 0); {drawn}"));
        browser.press("End");
        assert_eq!(browser.text("#event h3"), "TCP 999 is lost");
        assert!(number(&mut browser, "scrollY") > (top + above) as f64 - 1000.0);
        browser.value(&format!("document.getElementById('tcps-none').click(); {drawn}"));
        assert_eq!(browser.value("document.querySelectorAll('#tcps [aria-pressed=true]').length"), 0);
        assert!(number(&mut browser, "document.getElementById('chart').offsetHeight") < 1000.0);
        assert_eq!(browser.complaints, [] as [String; 0]);
    }

    #[test]
    fn chart_on_a_phone_is_sharp_and_no_larger_than_its_browser_draws() {
        let Some(mut browser) = Browser::start("view-phone") else { return };
        let directory = Directory::new("view-phone-pages");
        let file = directory.path().join("page.html");
        std::fs::write(&file, written(&Page::of_trace(many_lanes(60).as_bytes()).unwrap())).unwrap();
        let size = serde_json::json!({ "width": 400, "height": 900, "deviceScaleFactor": 3, "mobile": true });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser.open(&file, "theme=light");
        let number = |browser: &mut Browser, what: &str| browser.value(what).as_f64().unwrap();
        assert!(number(&mut browser, "document.getElementById('chart').offsetHeight") > 6000.0);
        let canvas = "(({ width, height, clientWidth }) => [width * height, width / clientWidth])(document.getElementById('canvas'))";
        let canvas = browser.value(canvas);
        assert!(canvas[0].as_f64().unwrap() <= 16e6 && (canvas[1].as_f64().unwrap() - 3.0).abs() < 0.05, "{canvas}");
        // Nothing is wider than the screen.
        assert_eq!(number(&mut browser, "document.documentElement.scrollWidth"), 400.0);
        assert_eq!(browser.complaints, [] as [String; 0]);
    }

    /// With `UPDATE_DOCS=1` the picture is made anew. Fonts differ, so it is compared as one sees it from afar.
    #[test]
    fn picture_of_the_docs_looks_like_the_page() {
        let Some(mut browser) = Browser::start("view-picture") else { return };
        let directory = Directory::new("view-picture-pages");
        let file = directory.path().join("page.html");
        std::fs::write(&file, written(&page_of("two-outages"))).unwrap();
        let size = serde_json::json!({ "width": 1280, "height": 1120, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser.open(&file, "theme=light");
        let taken = browser.call("Page.captureScreenshot", serde_json::json!({ "format": "png" }));
        let taken = taken["data"].as_str().unwrap().to_owned();
        let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots/view.png");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&picture, BASE64_STANDARD.decode(&taken).unwrap()).unwrap();
        }
        let shown = BASE64_STANDARD.encode(std::fs::read(&picture).unwrap());
        let differs = format!(
            "(async () => {{
                const pixels = async (data) => {{
                    const image = new Image();
                    image.src = `data:image/png;base64,${{data}}`;
                    await image.decode();
                    const canvas = document.createElement('canvas');
                    [canvas.width, canvas.height] = [32, 28];
                    const context = canvas.getContext('2d');
                    context.imageSmoothingQuality = 'high';
                    context.drawImage(image, 0, 0, 32, 28);
                    return [...context.getImageData(0, 0, 32, 28).data, image.width, image.height];
                }};
                const [a, b] = [await pixels('{taken}'), await pixels('{shown}')];
                return a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0);
            }})()"
        );
        let difference = browser.value(&differs).as_u64().unwrap();
        assert!(difference <= 60, "{difference}: run this test with UPDATE_DOCS=1 and look at docs/plots/view.png");
    }

    #[test]
    fn keyboard_reaches_every_control_and_paper_is_light() {
        let Some(mut browser) = Browser::start("view-keyboard") else { return };
        let directory = Directory::new("view-keyboard-pages");
        let file = file_of(&directory, 10);
        browser.open(&file, "theme=dark&event=3");
        // Every control and everything that scrolls can have the focus, and has a name.
        let unreachable = "[...document.querySelectorAll('button, select, input, canvas[tabindex], summary, .scrolls')]
            .filter((control) => control.tabIndex < 0 || control.disabled !== true && control.type !== 'checkbox'
                && !(control.textContent.trim() || control.ariaLabel || control.getAttribute('aria-labelledby')))
            .map((control) => control.outerHTML)";
        assert_eq!(browser.value(unreachable), serde_json::json!([]));
        // Nothing tells the state of a session whose trace begins in its middle.
        assert!(!browser.text("#state p").contains("the session is"), "{}", browser.text("#state p"));
        // The focus stays on a button that its own press replaces.
        browser.value("document.querySelector('#tcps button').focus()");
        browser.value("document.activeElement.click()");
        assert_eq!(browser.value("document.activeElement.getAttribute('aria-pressed')"), "false");
        browser.value("document.activeElement.click()");
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        browser.press("Tab");
        assert_eq!(browser.value(outline), "solid");
        // Keys of one character can be turned off, but in the chart.
        browser.value("document.getElementById('keys').checked = false");
        browser.press("n");
        assert!(browser.text("#event .muted").contains("event 3 of"), "{}", browser.text("#event"));
        browser.value("document.getElementById('canvas').focus()");
        browser.press("n");
        assert!(browser.text("#event .muted").contains("event 4 of"), "{}", browser.text("#event"));
        browser.value("addEventListener('beforeprint', () => (window.paper = [document.documentElement.dataset.theme, document.getElementById('canvas').width])); 1");
        let pdf = browser.call("Page.printToPDF", serde_json::json!({ "printBackground": true }));
        assert!(pdf["data"].as_str().unwrap().len() > 10_000);
        assert_eq!(browser.value("window.paper"), serde_json::json!(["light", 2 * 760]));
        assert_eq!(browser.value("document.documentElement.dataset.theme"), "dark");
        assert!(browser.value("document.getElementById('canvas').width").as_u64().unwrap() < 2 * 760);
        assert_eq!(browser.complaints, [] as [String; 0]);
    }

    #[test]
    fn browser_shows_every_session_and_a_trace_without_one() {
        let Some(mut browser) = Browser::start("view-sessions") else { return };
        let directory = Directory::new("view-sessions-pages");
        let file = directory.path().join("page.html");
        std::fs::write(&file, written(&page_of("three-clients"))).unwrap();
        for session in 0..3 {
            browser.open(&file, &format!("session={session}&theme=dark"));
            assert_eq!(browser.value("document.getElementById('session').value"), session.to_string());
            assert!(browser.text("#summary").contains("received"), "{}", browser.text("#summary"));
            assert_eq!(browser.complaints, [] as [String; 0]);
        }
        let fault = r#"{"t":5,"at":"network","what":"fault","fault":"reset","path":"a","over":false}"#;
        std::fs::write(&file, written(&Page::of_trace(fault.as_bytes()).unwrap())).unwrap();
        browser.open(&file, "event=1");
        assert_eq!(browser.text("#event h3"), "Fault: reset on a");
        assert_eq!(browser.complaints, [] as [String; 0]);
    }
}
