//! The history of a key as a drawing: a lane for each coordinator, a row for each write, and a line from
//! each write down to those that had seen it. In plain SVG, light or dark as its reader is.

use std::fmt::Write as _;

use replication::Explanation;

use super::history::{History, Node};
use super::{DotNames, name_text, quoted};

/// Writes that are drawn, the latest.
const WRITES_MAX: usize = 60;
/// Characters of a line of text.
const LINE_MAX: usize = 90;
/// Characters of a lane's name.
const LANE_NAME_MAX: usize = 12;

const MARGIN: usize = 24;
const LANE: usize = 96;
const ROW: usize = 46;
const HEAD: usize = 96;
const TEXT: usize = 620;

const STYLE: &str = "\
.paper{fill:#fff}.lane{stroke:#d0d7de;stroke-width:1.5}.edge{stroke:#6e7781;stroke-width:1.8;fill:none}\
text{font:13px ui-sans-serif,system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}\
.faint,.old text{fill:#6e7781}.name{font-weight:600}.live{fill:#1a7f37;stroke:#1a7f37;stroke-width:2}\
.past{fill:#fff;stroke:#8c959f;stroke-width:2}\
.folded{fill:#fff;stroke:#1a7f37;stroke-width:2;stroke-dasharray:3 2}.cross{stroke:#cf222e;stroke-width:2.5}\
@media(prefers-color-scheme:dark){.paper{fill:#0d1117}.lane{stroke:#30363d}.edge{stroke:#8b949e}\
text{fill:#e6edf3}.faint,.old text{fill:#8b949e}.live{fill:#3fb950;stroke:#3fb950}\
.past{fill:#0d1117;stroke:#6e7681}.folded{fill:#0d1117;stroke:#3fb950}.cross{stroke:#f85149}}";

/// The history of the key that `found` explains, as an SVG document.
pub fn svg(found: &Explanation) -> String {
    let history = History::of(&DotNames::of(found), WRITES_MAX);
    let lanes = history.lanes.len();
    let width = 2 * MARGIN + lanes * LANE + TEXT;
    let bottom = HEAD + history.writes.len().max(1) * ROW;
    let height = bottom + MARGIN + 20;
    let mut drawn = String::new();
    let mut add = |element: std::fmt::Arguments<'_>| {
        drawn.write_fmt(element).expect("writing to a string does not fail");
        drawn.push('\n');
    };
    let title = title(found);
    add(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">"
    ));
    add(format_args!("<title>{}</title>", escaped(&title)));
    add(format_args!("<style>{STYLE}</style>"));
    add(format_args!("<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>"));
    add(format_args!("<text class=\"title\" x=\"{MARGIN}\" y=\"30\">{}</text>", escaped(&title)));
    add(format_args!(
        "<text class=\"faint\" x=\"{MARGIN}\" y=\"50\">{}</text>",
        escaped(&subtitle(&history))
    ));
    for (lane, name) in history.lanes.iter().enumerate() {
        let (x, name) = (lane_x(lane), escaped(&cut(name, LANE_NAME_MAX)));
        let top = HEAD - 8;
        add(format_args!(
            "<text class=\"name\" x=\"{x}\" y=\"80\" text-anchor=\"middle\">{name}</text>"
        ));
        add(format_args!(
            "<line class=\"lane\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>"
        ));
    }
    for (place, node) in history.writes.iter().enumerate() {
        for &before in &node.after {
            let from = (lane_x(history.writes[before].lane), row_y(before));
            let to = (lane_x(node.lane), row_y(place));
            add(format_args!("<path class=\"edge\" d=\"{}\"/>", edge(from, to)));
        }
    }
    for (place, node) in history.writes.iter().enumerate() {
        let class = if node.is_live { "write" } else { "write old" };
        add(format_args!("<g class=\"{class}\">"));
        add(format_args!("{}", mark(node, lane_x(node.lane), row_y(place))));
        let x = MARGIN + lanes * LANE + 8;
        for (line, text) in lines(node).into_iter().enumerate() {
            let (y, class) = (row_y(place) - 2 + 17 * line, if line == 0 { "" } else { "faint" });
            let text = escaped(&cut(&text, LINE_MAX));
            add(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
        }
        add(format_args!("</g>"));
    }
    let y = bottom + MARGIN;
    let has_folded = history.writes.iter().any(|node| node.is_folded);
    let folded = if has_folded { " · dashed: folded into a sum" } else { "" };
    add(format_args!(
        "<text class=\"faint\" x=\"{MARGIN}\" y=\"{y}\">filled: live{folded} · hollow: superseded · cross: \
         removal · a line leads from a write down to one that had seen it</text>"
    ));
    add(format_args!("</svg>"));
    drawn
}

fn title(found: &Explanation) -> String {
    let live = found.merged.live_tags();
    let siblings = found.merged.siblings().len();
    let mut title =
        format!("{} in bucket {}", quoted(found.key.key(), 40), quoted(found.key.bucket(), 24));
    let types: Vec<String> = live.iter().map(ToString::to_string).collect();
    let _ = match types.len() {
        0 => write!(title, ": nothing"),
        1 => write!(title, ": {}", types[0]),
        _ => write!(title, ": in conflict, {}", types.join(" and ")),
    };
    if siblings > 1 {
        let _ = write!(title, " with {siblings} siblings");
    }
    title
}

fn subtitle(history: &History<'_>) -> String {
    match (history.writes.len(), history.left_out) {
        (0, _) => "no write of it is remembered".into(),
        (_, 0) => "its writes, as far as the nodes remember; time goes down".into(),
        (_, more) => format!("its latest writes; {more} earlier ones are left out; time goes down"),
    }
}

/// The two lines of text beside a write.
fn lines(node: &Node<'_>) -> [String; 2] {
    let mut first = format!("{}  {}", node.label, node.operation());
    if let Some(value) = &node.value {
        let _ = write!(first, "  {value}");
    }
    let mut second = Vec::new();
    if let Some(write) = node.write {
        second.push(format!("had seen {}", node.seen));
        second.extend(write.name.as_ref().and_then(name_text).map(|name| format!("as {name:?}")));
    }
    second.extend(node.time.map(|time| time.utc()));
    [first, second.join("  ·  ")]
}

fn mark(node: &Node<'_>, x: usize, y: usize) -> String {
    if node.is_removal() {
        let (left, right, top, low) = (x - 6, x + 6, y - 6, y + 6);
        return format!(
            "<path class=\"cross\" d=\"M{left} {top}L{right} {low}M{left} {low}L{right} {top}\"/>"
        );
    }
    let class = match (node.is_live, node.is_folded) {
        (_, true) => "folded",
        (true, _) => "live",
        (false, _) => "past",
    };
    format!("<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/>")
}

/// A line from one write down to another. One that passes rows of its own lane bows out, so that it
/// is not taken for theirs.
fn edge((x1, y1): (usize, usize), (x2, y2): (usize, usize)) -> String {
    let (start, end) = (y1 + 9, y2 - 9);
    if x1 == x2 && y2 - y1 == ROW {
        return format!("M{x1} {start}L{x2} {end}");
    }
    if x1 == x2 {
        let side = x1 - 34;
        return format!("M{x1} {start}C{side} {} {side} {} {x2} {end}", start + 24, end - 24);
    }
    // Turned into the other lane at once: there, it runs beside whatever stands between.
    let bend = (end - start) / 2;
    format!("M{x1} {start}C{x1} {} {x2} {} {x2} {end}", start + bend, end - bend)
}

const fn lane_x(lane: usize) -> usize {
    MARGIN + lane * LANE + LANE / 2
}

const fn row_y(place: usize) -> usize {
    HEAD + place * ROW + ROW / 2
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Text within an element or attribute. Characters that XML has no place for are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            control if control.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}
