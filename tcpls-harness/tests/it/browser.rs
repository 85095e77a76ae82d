//! Chromium without a window, driven over a pipe with its DevTools protocol.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::Directory;

/// Where distributions have it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// A browser that does not end by itself is killed after this number of seconds, which fails the test.
const PATIENCE: &str = "600";

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: File,
    output: File,
    /// Bytes that were read and belong to no message yet.
    rest: Vec<u8>,
    number: u64,
    session: Option<String>,
    /// Errors, messages of the console, and requests to the network.
    pub(crate) complaints: Vec<String>,
    /// Its profile and pipes.
    _directory: Directory,
}

impl Browser {
    /// Starts the browser, or says why the test is skipped.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let runs = |name: &&&str| {
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        };
        let Some(name) = NAMES.iter().find(runs) else {
            eprintln!("skipped: Chromium is not installed");
            return None;
        };
        let directory = Directory::new(test);
        let [input, output] = ["in", "out"].map(|name| directory.path().join(name));
        let made = Command::new("mkfifo").args([&input, &output]).status().unwrap();
        assert!(made.success(), "mkfifo");
        // The browser reads commands from descriptor 3, and writes to 4.
        let child = Command::new("sh")
            .args(["-c", r#"exec timeout -k 5 "$0" "$@" 3<"$PIPE_IN" 4>"$PIPE_OUT""#, PATIENCE, name])
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-sandbox",
                "--disable-background-networking",
                "--window-size=1440,1400",
                "--force-device-scale-factor=1",
            ])
            .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
            .env("PIPE_IN", &input)
            .env("PIPE_OUT", &output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = File::options().write(true).open(input).unwrap();
        let output = File::open(output).unwrap();
        let mut browser = Self {
            child,
            input,
            output,
            rest: Vec::new(),
            number: 0,
            session: None,
            complaints: Vec::new(),
            _directory: directory,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens a file, with what comes behind `#`, and waits until it is loaded.
    pub(crate) fn open(&mut self, page: &Path, fragment: &str) {
        // Without a page in between, another fragment would load nothing.
        self.navigate("about:blank");
        self.complaints.clear();
        self.navigate(&format!("file://{}#{fragment}", page.display()));
        assert!(
            self.value("document.documentElement.dataset.ready !== undefined").as_bool().unwrap(),
            "{:?}",
            self.complaints
        );
    }

    fn navigate(&mut self, url: &str) {
        let id = self.send("Page.navigate", json!({ "url": url }));
        let (mut is_answered, mut is_loaded) = (false, false);
        while !(is_answered && is_loaded) {
            let message = self.receive();
            is_answered |= message["id"] == id;
            is_loaded |= message["method"] == "Page.loadEventFired";
        }
    }

    /// The value of an expression of JavaScript.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let result = self
            .call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// The text of the first element that a selector finds.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?}).textContent"));
        text.as_str().unwrap().to_owned()
    }

    /// The texts of all cells of a table, row by row.
    pub(crate) fn table(&mut self, selector: &str) -> Vec<Vec<String>> {
        let rows = format!(
            "[...document.querySelectorAll({:?})].map((row) => [...row.cells].map((cell) => cell.textContent))",
            format!("{selector} tbody tr")
        );
        serde_json::from_value(self.value(&rows)).unwrap()
    }

    /// Presses a key, and waits until the page has drawn.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key.len() == 1 { key } else { "" };
        for ty in ["keyDown", "keyUp"] {
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": ty, "key": key, "text": if ty == "keyDown" { text } else { "" } }),
            );
        }
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)");
    }

    /// Does something with the mouse at a place of the page: `mouseMoved`, `mousePressed`, `mouseReleased`.
    pub(crate) fn mouse(&mut self, ty: &str, x: f64, y: f64) {
        let parameters = json!({ "type": ty, "x": x, "y": y, "button": if ty == "mouseMoved" { "none" } else { "left" }, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", parameters);
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)");
    }

    fn send(&mut self, method: &str, parameters: Value) -> u64 {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.number
    }

    /// Calls a method of the protocol, and returns its result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.send(method, parameters);
        loop {
            let mut message = self.receive();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    fn receive(&mut self) -> Value {
        let mut buffer = [0; 1 << 16];
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.rest.drain(..=end).collect();
                let message: Value = serde_json::from_slice(&message[..end]).unwrap();
                self.listen(&message);
                return message;
            }
            let len = self.output.read(&mut buffer).unwrap();
            assert!(len > 0, "the browser has ended");
            self.rest.extend_from_slice(&buffer[..len]);
        }
    }

    /// Keeps what a page must not cause.
    fn listen(&mut self, message: &Value) {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled") => {
                self.complaints.push(parameters.to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                if !["file:", "data:", "about:"].iter().any(|scheme| url.starts_with(scheme)) {
                    self.complaints.push(format!("a request for {url}"));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        _ = self.input.write_all(b"{\"id\":1000000,\"method\":\"Browser.close\"}\0");
        _ = self.child.wait();
    }
}
