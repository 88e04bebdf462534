//! The page in a real browser, Chromium: it loads without complaints, is not blank, and its colors
//! are where they belong.

use super::page::{held, pool, replica};
use crate::support::controller::Replica;
use crate::support::nodes::own_name;
use crate::support::sandbox::Sandbox;
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Output};

type Color = [u8; 3];

/// The colors of src/controller/page/style.css.
const LIGHT: Color = [0xfb, 0xfb, 0xfa];
const LINE: Color = [0xd5, 0xd9, 0xde];
const DARK: Color = [0x14, 0x17, 0x1a];
const POD: Color = [0x2b, 0x6c, 0xb0];
const GATEWAY: Color = [0x1c, 0x20, 0x24];
const FREE: Color = [0xff, 0xff, 0xff];

/// A browser, with a directory of its own.
struct Browser<'s> {
    sandbox: &'s Sandbox,
    replica: &'s Replica,
}

/// What a browser has drawn.
struct Picture {
    width: usize,
    height: usize,
    /// Three bytes for each pixel, row by row.
    pixels: Vec<u8>,
}

impl Picture {
    /// Reads a PNG of 8 bits for each of three or four colors, not interlaced (RFC 2083).
    fn read(file: &[u8]) -> Self {
        assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
        let number = |from: usize| u32::from_be_bytes(file[from..from + 4].try_into().unwrap());
        let (width, height) = (number(16) as usize, number(20) as usize);
        let size = match file[24..29] {
            [8, 2, 0, 0, 0] => 3,
            [8, 6, 0, 0, 0] => 4,
            ref other => panic!("{other:?}"),
        };
        let (mut at, mut packed) = (8, Vec::new());
        while at < file.len() {
            let length = number(at) as usize;
            if &file[at + 4..at + 8] == b"IDAT" {
                packed.extend_from_slice(&file[at + 8..at + 8 + length]);
            }
            at += length + 12;
        }
        let rows = miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap();
        let mut above = vec![0u8; width * size];
        let mut pixels = Vec::new();
        for row in rows.chunks(width * size + 1) {
            let mut line = row[1..].to_vec();
            for at in 0..line.len() {
                let left = if at < size { 0 } else { line[at - size] };
                let corner = if at < size { 0 } else { above[at - size] };
                line[at] = line[at].wrapping_add(match row[0] {
                    0 => 0,
                    1 => left,
                    2 => above[at],
                    3 => u8::midpoint(left, above[at]),
                    4 => nearest(left, above[at], corner),
                    other => panic!("filter {other}"),
                });
            }
            pixels.extend(line.chunks(size).flat_map(|pixel| pixel[..3].to_vec()));
            above = line;
        }
        Self { width, height, pixels }
    }

    fn at(&self, x: usize, y: usize) -> Color {
        let from = (y * self.width + x) * 3;
        self.pixels[from..from + 3].try_into().unwrap()
    }

    /// Returns the number of pixels of exactly this color.
    fn count(&self, color: Color) -> usize {
        self.pixels.chunks(3).filter(|pixel| *pixel == color).count()
    }
}

/// Returns the neighbor that is nearest to `left + above - corner` (Paeth).
fn nearest(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i32::from);
    let [to_left, to_above, to_corner] = [a, b, c].map(|value| (a + b - c - value).abs());
    if to_left <= to_above && to_left <= to_corner {
        left
    } else if to_above <= to_corner {
        above
    } else {
        corner
    }
}

impl Browser<'_> {
    fn run(&self, path: &str, width: u32, words: &[&str]) -> Output {
        let output = Command::new("timeout")
            .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--hide-scrollbars", "--force-device-scale-factor=1", "--no-first-run"])
            .args(["--disable-background-networking", "--enable-logging=stderr"])
            .arg(format!("--user-data-dir={}", self.sandbox.path("browser").display()))
            .arg(format!("--window-size={width},1500"))
            .args(words)
            .arg(format!("http://{}{path}", self.replica.address))
            .env("HOME", &self.sandbox.root)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {said}");
        // What the page itself is blamed for: a style that the policy forbids, a broken file.
        let blamed: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(blamed.is_empty(), "{path}: {blamed:?}");
        output
    }

    /// Returns the document as the browser has understood it.
    fn document(&self, path: &str) -> String {
        String::from_utf8(self.run(path, 1280, &["--dump-dom"]).stdout).unwrap()
    }

    fn picture(&self, path: &str, width: u32, is_dark: bool) -> Picture {
        let file: PathBuf = self.sandbox.path("page.png");
        let scheme = u8::from(!is_dark);
        self.run(
            path,
            width,
            &[
                &format!("--screenshot={}", file.display()),
                &format!("--blink-settings=preferredColorScheme={scheme}"),
            ],
        );
        Picture::read(&std::fs::read(file).unwrap())
    }
}

/// Installs the browser, if it is not there.
fn installed() -> Result<(), String> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tools");
    let output = Command::new(tools).arg("browser").output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn a_real_browser_shows_pools_of_all_sizes() {
    let sandbox = Sandbox::new();
    let Some(mut replica) = replica(&sandbox, &[]) else { return };
    if let Err(reason) = installed() {
        return skipped!("{reason}");
    }
    let [none, small, large] = ["none", "small", "large"].map(own_name);
    let all = json!([{"addresses": "10.81.0.0/24"}]);
    pool(&none, &json!({"scope": none, "subnets": [{"subnet": "10.81.0.0/24", "exclude": all}]}));
    let subnets = json!([{"subnet": "10.82.0.0/24", "gateway": "10.82.0.1"}]);
    pool(&small, &json!({"scope": small, "subnets": subnets}));
    pool(&large, &json!({"scope": large, "subnets": [{"subnet": "10.83.0.0/16"}]}));
    let addresses: Vec<String> = (2..=127).map(|low| format!("10.82.0.{low}")).collect();
    let records: Vec<_> = addresses.iter().map(|a| (a.as_str(), "default/web-0", "n1")).collect();
    held(&small, &records);
    let addresses: Vec<String> = (0..64).map(|low| format!("10.83.1.{low}")).collect();
    let records: Vec<_> = addresses.iter().map(|a| (a.as_str(), "default/web-1", "n2")).collect();
    held(&large, &records);
    replica.wait(30, "the holders", |replica| {
        let list = replica.get("/").body;
        (list.contains(">126 held, ") && list.contains(">64 held, ")).then_some(())
    });
    let browser = Browser { sandbox: &sandbox, replica: &replica };
    let path = |name: &str| format!("/pool/IPPool/{name}");

    // Each cell is there once, as the browser understands the page.
    for (name, cells) in [(&small, 256), (&large, 1024)] {
        let document = browser.document(&path(name));
        assert_eq!(document.matches("<g class=\"cell\">").count(), cells, "{name}");
        assert!(document.contains("</footer>"), "{name}: {document}");
    }

    // A cell has 17 x 17 pixels, of which a line on each side is its edge.
    let cell = 15 * 15;
    let of_none = browser.picture(&path(&none), 1280, false);
    assert_eq!((of_none.width, of_none.height, of_none.at(2, 2)), (1280, 1500, LIGHT));
    assert_eq!(of_none.count(POD), 0);
    let of_small = browser.picture(&path(&small), 1280, false);
    assert!((126 * cell..150 * cell).contains(&(of_small.count(POD) - bar(&of_small))));
    assert!(cell / 2 < of_small.count(GATEWAY), "{}", of_small.count(GATEWAY));
    assert!(120 * cell < of_small.count(FREE), "{}", of_small.count(FREE));
    let of_large = browser.picture(&path(&large), 1280, false);
    // One of 1,024 cells is full.
    assert!((cell..3 * cell).contains(&(of_large.count(POD) - bar(&of_large))));

    let dark = browser.picture(&path(&small), 1280, true);
    assert_eq!(dark.at(2, 2), DARK);
    assert!(dark.count(POD) == 0 && dark.count(FREE) == 0);
    // On a narrow screen, nothing leaves the window: the map ends before its right edge.
    let narrow = browser.picture(&path(&small), 400, false);
    assert_eq!(narrow.width, 400);
    assert!((0..narrow.height).all(|y| [LIGHT, LINE].contains(&narrow.at(398, y))));
}

/// Returns the pixels of the bar above the map: those in the rows of its middle.
fn bar(picture: &Picture) -> usize {
    let is_bar = |y: &usize| {
        let row = (0..picture.width).filter(|x| picture.at(*x, *y) == POD).count();
        let first = (0..picture.width).find(|x| picture.at(*x, *y) == POD);
        // The bar begins at the left edge of the text.
        0 < row && first.is_some_and(|x| x < 65)
    };
    let rows = (0..picture.height).filter(is_bar);
    rows.map(|y| (0..picture.width).filter(|x| picture.at(*x, y) == POD).count()).sum()
}
