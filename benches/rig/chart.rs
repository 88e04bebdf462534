//! Draws line charts as SVG text. The same figures always give the same bytes.
//!
//! A chart has its own white background, so that it is readable on a dark page, too. Every point
//! shows its value, so that no value has to be read from an axis.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The box of the axes.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 720.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 376.0;

/// One line of points, in increasing order of `x`.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) color: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart with a logarithmic `x` axis. 0 is at the place of 1.
pub(crate) struct Chart<'c> {
    pub(crate) title: &'c str,
    pub(crate) x_label: &'c str,
    pub(crate) y_label: &'c str,
    pub(crate) is_y_logarithmic: bool,
    pub(crate) series: Vec<Series>,
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#1f2328\" role=\"img\" aria-label=\"{}\">",
            escaped(self.title)
        );
        let _ = writeln!(text, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>");
        let _ = writeln!(
            text,
            "<text x=\"{LEFT}\" y=\"28\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escaped(self.title)
        );
        self.write_legend(&mut text);
        self.write_axes(&mut text);
        for series in &self.series {
            self.write_series(&mut text, series);
        }
        text += "</svg>\n";
        text
    }

    fn write_legend(&self, text: &mut String) {
        for (at, Series { name, color, .. }) in self.series.iter().enumerate() {
            let x = LEFT + 230.0 * at as f64;
            let _ = writeln!(
                text,
                "<line x1=\"{x}\" y1=\"52\" x2=\"{}\" y2=\"52\" stroke=\"{color}\" stroke-width=\"3\"/>",
                x + 28.0
            );
            let _ = writeln!(text, "<text x=\"{}\" y=\"56\">{}</text>", x + 36.0, escaped(name));
        }
    }

    fn write_axes(&self, text: &mut String) {
        for value in self.y_ticks() {
            let y = self.y(value);
            let _ = writeln!(
                text,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"#d0d7de\"/>"
            );
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                plain(value)
            );
        }
        for value in self.x_values() {
            let x = self.x(value);
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" y1=\"{BOTTOM}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#1f2328\"/>",
                BOTTOM + 5.0
            );
            let _ = writeln!(
                text,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 20.0,
                plain(value)
            );
        }
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#1f2328\"/>"
        );
        let (middle, low) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 46.0);
        let _ = writeln!(
            text,
            "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{}</text>",
            escaped(self.x_label)
        );
        let side = f64::midpoint(TOP, BOTTOM);
        let turned = format!(
            "x=\"20\" y=\"{side}\" transform=\"rotate(-90 20 {side})\" text-anchor=\"middle\""
        );
        let _ = writeln!(text, "<text {turned}>{}</text>", escaped(self.y_label));
    }

    fn write_series(&self, text: &mut String, series: &Series) {
        let Series { color, points, .. } = series;
        let line: Vec<String> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y))).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for &(x, y) in points {
            let (at, height) = (self.x(x), self.y(y));
            let _ = writeln!(
                text,
                "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"3.5\" fill=\"{color}\"/>"
            );
            // The values of the lowest line are below it if there is room above the axis. All
            // others are above their line.
            let others = self.series.iter().filter(|other| !std::ptr::eq(*other, series));
            let is_lowest = others
                .flat_map(|other| &other.points)
                .filter(|other| (other.0 - x).abs() < 0.5)
                .all(|other| y <= other.1);
            let has_room = 1 < self.series.len() && height + 22.0 < BOTTOM;
            let offset = if is_lowest && has_room { 18.0 } else { -9.0 };
            let style = format!("text-anchor=\"middle\" font-size=\"11\" fill=\"{color}\"");
            let _ = writeln!(
                text,
                "<text x=\"{at:.1}\" y=\"{:.1}\" {style}>{}</text>",
                height + offset,
                value(y)
            );
        }
    }

    /// Returns each `x` that has a point, once.
    fn x_values(&self) -> Vec<f64> {
        let mut all: Vec<f64> =
            self.series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    fn highest(&self) -> f64 {
        self.series
            .iter()
            .flat_map(|series| &series.points)
            .map(|point| point.1)
            .fold(f64::MIN_POSITIVE, f64::max)
    }

    /// Returns the ends of the `y` axis: whole powers of ten, or 0 and the first tick at or above
    /// the highest value.
    fn y_ends(&self) -> (f64, f64) {
        if !self.is_y_logarithmic {
            let step = step(self.highest());
            return (0.0, (self.highest() / step).ceil().max(1.0) * step);
        }
        let all = self.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let lowest = all.fold(self.highest(), f64::min).max(1e-6);
        (lowest.log10().floor(), self.highest().log10().ceil().max(lowest.log10().floor() + 1.0))
    }

    fn y_ticks(&self) -> Vec<f64> {
        let (low, high) = self.y_ends();
        let step = if self.is_y_logarithmic { 1.0 } else { step(self.highest()) };
        let mut ticks = Vec::new();
        let mut at = low;
        while at <= high + step / 2.0 {
            ticks.push(if self.is_y_logarithmic { 10f64.powf(at) } else { at });
            at += step;
        }
        ticks
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.y_ends();
        let value = if self.is_y_logarithmic { value.max(1e-6).log10() } else { value };
        BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low)
    }

    fn x(&self, value: f64) -> f64 {
        let highest = self.x_values().last().copied().unwrap_or(1.0).max(2.0);
        // Leave room at both ends for the values of the first and the last point.
        LEFT + 36.0 + (RIGHT - LEFT - 72.0) * value.max(1.0).log10() / highest.log10()
    }
}

/// Returns a step of 1, 2 or 5 times a power of ten. Four to eight steps reach the highest value.
fn step(highest: f64) -> f64 {
    let power = 10f64.powf((highest / 4.0).log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step * 4.0 <= highest)
        .unwrap_or(power)
}

/// Formats a number with three significant digits.
fn value(number: f64) -> String {
    match number {
        small if small < 10.0 => format!("{small:.2}"),
        middle if middle < 100.0 => format!("{middle:.1}"),
        large => format!("{large:.0}"),
    }
}

fn plain(number: f64) -> String {
    if (number - number.round()).abs() < 1e-9 {
        format!("{number:.0}")
    } else {
        format!("{number}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(is_y_logarithmic: bool) -> Chart<'static> {
        let ours = Series { name: "ours", color: "#000", points: vec![(0.0, 1.5), (1000.0, 1.6)] };
        let theirs =
            Series { name: "a & b", color: "#111", points: vec![(0.0, 2.0), (1000.0, 320.0)] };
        Chart {
            title: "t",
            x_label: "x",
            y_label: "y",
            is_y_logarithmic,
            series: vec![ours, theirs],
        }
    }

    #[test]
    fn the_same_figures_give_the_same_text() {
        assert_eq!(chart(true).svg(), chart(true).svg());
    }

    #[test]
    fn every_point_has_its_value_and_every_line_its_name() {
        for is_y_logarithmic in [true, false] {
            let text = chart(is_y_logarithmic).svg();
            for part in
                [">1.50<", ">1.60<", ">2.00<", ">320<", ">ours<", ">a &amp; b<", "fill=\"#ffffff\""]
            {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(text.matches("<circle").count(), 4);
        }
    }

    #[test]
    fn ticks_are_round_and_reach_over_the_highest_value() {
        assert_eq!(chart(true).y_ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(chart(false).y_ticks(), [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0]);
    }

    #[test]
    fn zero_stands_where_one_would() {
        let chart = chart(true);
        assert!((chart.x(0.0) - chart.x(1.0)).abs() < 1e-9);
        assert!(chart.x(1.0) < chart.x(2.0));
    }
}
