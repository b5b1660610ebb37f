//! Plots, drawn by hand: bars with their range, and times on a logarithmic scale.

use std::fmt::Write as _;

use crate::figures::{L0, Latency, Results};
use crate::stats::Spread;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 20.0;
const THICK: f64 = 13.0;
/// Nothing is drawn beyond this ratio; its number is written all the same.
const MOST: f64 = 2.0;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn text(out: &mut String, x: f64, y: f64, how: &str, what: &str) {
    let _ = writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" {how}>{}</text>"#,
        escape(what)
    );
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        out,
        r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
        from.0, from.1, to.0, to.1
    );
}

fn frame(height: f64, title: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" font-size=\"12\" \
         role=\"img\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         {body}</svg>\n",
        escape(title)
    )
}

/// Plain statements grey, models of other ways orange, pgshift blue.
fn colour(contender: &str) -> &'static str {
    match contender {
        "at-rest" | "one-update" | "one-update-trigger" => "#8a8f98",
        "touch-keys" | "limit-loop" | "keyset-sleep" => "#d9822b",
        _ => "#2f6fb3",
    }
}

/// The right end of the axis: the largest value rounded up to a quarter.
fn end_of_axis(largest: f64) -> f64 {
    ((largest.clamp(1.0, MOST) + 0.05) * 4.0).ceil() / 4.0
}

/// Rows a second of every contender on every table, as ratios to one plain UPDATE.
pub(crate) fn speed(results: &Results) -> String {
    let tables: Vec<(&str, Vec<(&str, Spread)>)> = results
        .speed_tables()
        .map(|table| {
            let all = results
                .contenders_on(&table.name)
                .filter_map(|c| Some((c.name.as_str(), results.speed(&table.name, &c.name, L0)?)));
            (table.name.as_str(), all.collect())
        })
        .collect();
    let largest = tables.iter().flat_map(|(_, all)| all).map(|(_, s)| s.max);
    let end = end_of_axis(largest.fold(1.0, f64::max));
    let x = |ratio: f64| LEFT + (WIDTH - LEFT - RIGHT) * ratio.clamp(0.0, end) / end;
    let mut out = String::new();
    let title = "Rows per second of a backfill ÷ those of one plain UPDATE";
    text(
        &mut out,
        12.0,
        24.0,
        r##"font-size="16" fill="#111""##,
        title,
    );
    text(
        &mut out,
        12.0,
        42.0,
        r##"fill="#555""##,
        "bar: median; line: lowest to highest round; more is better",
    );
    let mut y = 64.0;
    for (table, all) in &tables {
        text(
            &mut out,
            12.0,
            y + 12.0,
            r##"font-weight="bold" fill="#111""##,
            table,
        );
        y += LINE;
        let bottom = y + LINE * all.len() as f64;
        for step in 0..=(end * 4.0) as u32 {
            let at = f64::from(step) / 4.0;
            let shade = if step == 4 { "#111" } else { "#ddd" };
            line(&mut out, (x(at), y), (x(at), bottom), shade);
            let how = r##"text-anchor="middle" fill="#555" font-size="10""##;
            text(&mut out, x(at), bottom + 12.0, how, &format!("{at:.2}"));
        }
        for (contender, spread) in all {
            let how = r##"text-anchor="end" fill="#111""##;
            text(&mut out, LEFT - 8.0, y + THICK, how, contender);
            let _ = writeln!(
                out,
                r#"<rect x="{LEFT:.1}" y="{:.1}" width="{:.1}" height="{THICK:.1}" fill="{}"/>"#,
                y + 2.0,
                x(spread.median) - LEFT,
                colour(contender)
            );
            let middle = y + 2.0 + THICK / 2.0;
            let (low, high) = (x(spread.min), x(spread.max));
            line(&mut out, (low, middle), (high, middle), "#111");
            for end in [low, high] {
                line(&mut out, (end, middle - 3.0), (end, middle + 3.0), "#111");
            }
            let value = format!("{:.2}", spread.median);
            text(&mut out, high + 6.0, y + THICK, r##"fill="#111""##, &value);
            y += LINE;
        }
        y = bottom + 28.0;
    }
    let how = r##"text-anchor="middle" fill="#555""##;
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    text(
        &mut out,
        middle,
        y + 2.0,
        how,
        "rows/s ÷ rows/s of one plain UPDATE (L0)",
    );
    frame(y + 16.0, title, &out)
}

/// Decades of the axis of times: 0.1 ms to 10 s.
const DECADES: [f64; 6] = [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// p50, p99 and the longest statement of the application beside every contender.
pub(crate) fn latency(results: &Results) -> String {
    let Some(table) = results.latency_tables().next() else {
        return frame(60.0, "not measured", "");
    };
    let of = |who: &str, value: fn(Latency) -> f64| {
        results.spread(&table.name, who, |f| Some(value(f.latency?)))
    };
    let x = |ms: f64| {
        let (first, last) = (DECADES[0].log10(), DECADES[5].log10());
        let part = (ms.max(DECADES[0]).log10() - first) / (last - first);
        LEFT + (WIDTH - LEFT - RIGHT) * part.min(1.0)
    };
    let mut out = String::new();
    let title = format!(
        "Times of an application's statements, {} a second",
        results.rate
    );
    text(
        &mut out,
        12.0,
        24.0,
        r##"font-size="16" fill="#111""##,
        &title,
    );
    text(
        &mut out,
        12.0,
        42.0,
        r##"fill="#555""##,
        "circle: p50, square: p99 (medians of rounds), triangle: longest of all rounds; less is better",
    );
    let mut y = 60.0;
    let who: Vec<&str> = results
        .contenders_on(&table.name)
        .map(|c| c.name.as_str())
        .collect();
    let bottom = y + LINE * who.len() as f64;
    for decade in DECADES {
        let shade = if decade > 99.0 && decade < 101.0 {
            "#b33"
        } else {
            "#ddd"
        };
        line(&mut out, (x(decade), y), (x(decade), bottom), shade);
        let name = if decade < 1_000.0 {
            format!("{decade} ms")
        } else {
            format!("{} s", decade / 1_000.0)
        };
        let how = r##"text-anchor="middle" fill="#555" font-size="10""##;
        text(&mut out, x(decade), bottom + 12.0, how, &name);
    }
    for contender in who {
        let how = r##"text-anchor="end" fill="#111""##;
        text(&mut out, LEFT - 8.0, y + THICK, how, contender);
        let middle = y + 2.0 + THICK / 2.0;
        let p50 = of(contender, |l| l.p50_ms).map(|s| x(s.median));
        let p99 = of(contender, |l| l.p99_ms).map(|s| x(s.median));
        let longest = of(contender, |l| l.max_ms);
        let fill = colour(contender);
        if let Some((from, to)) = p50.zip(longest) {
            line(&mut out, (from, middle), (x(to.max), middle), fill);
        }
        if let Some(at) = p50 {
            let _ = writeln!(
                out,
                r#"<circle cx="{at:.1}" cy="{middle:.1}" r="4" fill="{fill}"/>"#
            );
        }
        if let Some(at) = p99 {
            let _ = writeln!(
                out,
                r#"<rect x="{:.1}" y="{:.1}" width="8" height="8" fill="{fill}"/>"#,
                at - 4.0,
                middle - 4.0
            );
        }
        if let Some(longest) = longest {
            let at = x(longest.max);
            let _ = writeln!(
                out,
                r#"<path d="M{:.1} {:.1} h10 l-5 -9 z" fill="{fill}"/>"#,
                at - 5.0,
                middle + 5.0
            );
            let value = format!("{:.0} ms", longest.max);
            text(&mut out, at + 9.0, y + THICK, r##"fill="#111""##, &value);
        }
        y += LINE;
    }
    let how = r##"text-anchor="middle" fill="#555""##;
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    text(
        &mut out,
        middle,
        bottom + 32.0,
        how,
        "time of a statement (logarithmic)",
    );
    frame(bottom + 46.0, &title, &out)
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use super::*;
    use crate::figures::tests::{figure, results};

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_everything_is_within_the_frame() {
        let plot = speed(&results(vec![
            figure("int0", L0, 0, 1.0),
            figure("int0", "ctid-5k", 0, 2.0),
            figure("int0", "touch-keys", 0, 0.1),
        ]));
        let widths: Vec<f64> = plot
            .lines()
            .filter_map(|l| {
                l.strip_prefix("<rect x=\"170.0\"")?
                    .split("width=\"")
                    .nth(1)
            })
            .filter_map(|l| l.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 3, "{plot}");
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.01, "{widths:?}");
        assert!(LEFT + widths[2] <= WIDTH - RIGHT + 0.1, "{widths:?}");
        assert!(plot.contains(">10.00</text>"), "{plot}");
        assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"));
    }

    #[test]
    fn the_axis_ends_beyond_the_largest_value() {
        for (largest, end) in [
            (0.3, 1.25),
            (1.0, 1.25),
            (1.19, 1.25),
            (1.3, 1.5),
            (9.0, 2.25),
        ] {
            assert!((end_of_axis(largest) - end).abs() < 1e-9, "{largest}");
        }
    }

    #[test]
    fn names_cannot_break_the_markup() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
        let mut out = String::new();
        text(&mut out, 1.0, 2.0, "", "<script>");
        assert!(!out.contains("<script>"));
    }

    #[test]
    fn times_are_drawn() {
        let mut one = figure("app", "default", 0, 1.0);
        one.latency = Some(Latency {
            statements: 10,
            p50_ms: 0.0,
            p99_ms: 10.0,
            max_ms: 99_999.0,
        });
        let plot = latency(&results(vec![one]));
        assert!(
            plot.contains("<circle") && plot.contains("99999 ms"),
            "{plot}"
        );
    }
}
