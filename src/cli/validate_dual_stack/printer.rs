//! Prints the rows. A cluster may have more of them than fit into memory: many rows are printed
//! while the cluster is read.

use super::row::{Row, Verdict};
use crate::cli::Format;
use crate::cli::output::{self, Columns};
use std::io::Write;

/// The largest number of rows whose columns are aligned with each other.
const ALIGNED: usize = 10_000;

/// Prints rows, and counts them.
pub(super) struct Printer {
    format: Format,
    out: Box<dyn Write>,
    /// The rows that wait for the widths of the columns.
    kept: Vec<[String; 6]>,
    columns: Option<Columns>,
    /// The largest number of rows that wait.
    most: usize,
    /// The number of rows so far.
    rows: usize,
    gaps: usize,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self::to(Box::new(output::buffered()), format, ALIGNED)
    }

    fn to(out: Box<dyn Write>, format: Format, most: usize) -> Self {
        Self { format, out, kept: Vec::new(), columns: None, most, rows: 0, gaps: 0 }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &Row) -> anyhow::Result<()> {
        self.gaps += usize::from(matches!(row.verdict, Verdict::Gap(_)));
        self.rows += 1;
        if self.format == Format::Json {
            self.out.write_all(if self.rows == 1 { b"[\n  " } else { b",\n  " })?;
            // Converted to an output error, so that a reader that stops reading is not a failure.
            let written = serde_json::to_writer(&mut self.out, &row.document());
            return Ok(written.map_err(std::io::Error::from)?);
        }
        if let Some(columns) = &self.columns {
            return Ok(self.out.write_all(columns.line(&row.cells()).as_bytes())?);
        }
        self.kept.push(row.cells());
        if self.most < self.kept.len() { self.write_kept() } else { Ok(()) }
    }

    /// Prints the rest, and returns the number of gaps.
    pub(super) fn end(mut self, summary: &str) -> anyhow::Result<usize> {
        match self.format {
            Format::Json => {
                self.out.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
            }
            Format::Table => {
                if self.columns.is_none() && 0 < self.rows {
                    self.write_kept()?;
                }
                let verdict = if self.gaps == 0 { "no gaps: " } else { "" };
                writeln!(self.out, "{verdict}{summary}")?;
            }
        }
        self.out.flush()?;
        Ok(self.gaps)
    }

    fn write_kept(&mut self) -> anyhow::Result<()> {
        let kept = std::mem::take(&mut self.kept);
        let columns = Columns::fit(&Row::HEADINGS, kept.iter().map(<[String; 6]>::as_slice));
        self.out.write_all(columns.line(&Row::HEADINGS).as_bytes())?;
        for cells in &kept {
            self.out.write_all(columns.line(cells).as_bytes())?;
        }
        self.columns = Some(columns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::validate_dual_stack::row::ByFamily;
    use expect_test::expect;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Written(Rc<RefCell<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn print(format: Format, names: &[&str], most: usize) -> String {
        let written = Written::default();
        let mut printer = Printer::to(Box::new(written.clone()), format, most);
        for name in names {
            let found = ByFamily::of(["10.0.0.1"]);
            let verdict = found.verdict("address");
            let (namespace, what) = (String::new(), "addresses".to_owned());
            let row = Row { kind: "Node", namespace, name: (*name).into(), what, found, verdict };
            printer.add(&row).unwrap();
        }
        assert_eq!(printer.end("all read").unwrap(), names.len());
        String::from_utf8(written.0.take()).unwrap()
    }

    #[test]
    fn rows_beyond_the_first_ones_are_not_kept() {
        expect![[r#"
            KIND  NAME  WHAT       IPV4      IPV6  VERDICT
            Node  a     addresses  10.0.0.1  -     gap: no IPv6 address
            Node  bb    addresses  10.0.0.1  -     gap: no IPv6 address
            Node  longer  addresses  10.0.0.1  -     gap: no IPv6 address
            all read
        "#]]
        .assert_eq(&print(Format::Table, &["a", "bb", "longer"], 1));
        assert_eq!(print(Format::Table, &[], 1), "no gaps: all read\n");
        assert_eq!(print(Format::Json, &[], 1), "[]\n");
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&print(Format::Json, &["a", "b"], 1)).unwrap();
        assert_eq!(rows.len(), 2);
    }
}
