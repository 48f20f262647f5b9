//! A space-time diagram of a trace, as SVG: a lane for each node, time downwards, messages as arrows,
//! and on the lanes when nodes were down or paused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use replication::RequestId;

use crate::trace::{Line, Trace, TraceFilter};

/// Between two lanes, and around them, in pixels.
const LANE: u64 = 170;
const MARGIN: u64 = 90;

/// Height of one millisecond, and the greatest of a time in which nothing is shown, in pixels.
const PER_MS: u64 = 6;
const GAP_MAX: u64 = 24;

/// Lines that are drawn, at most: more nobody can look at.
const LINES_MAX: usize = 4_000;

impl Trace {
    /// Draws the lines that a filter lets through; the first few thousand of them.
    pub fn svg(&self, filter: &TraceFilter) -> String {
        let mut lines = self.shown(filter);
        lines.truncate(LINES_MAX);
        let nodes = lines.iter().map(|(_, line)| last_node(line) + 1).max().unwrap_or(1);
        let heights = heights(&lines);
        let height = heights.values().max().copied().unwrap_or(0) + MARGIN;
        let width = 2 * MARGIN + LANE * (nodes as u64 - 1) + 220;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"10\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"6\" \
             markerHeight=\"6\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"#345\"/>\
             </marker></defs>\n"
        );
        for node in 0..nodes {
            let x = x_of(node);
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"20\" text-anchor=\"middle\" font-weight=\"bold\">n{node}</text>\
                 <line x1=\"{x}\" y1=\"30\" x2=\"{x}\" y2=\"{height}\" stroke=\"#bbb\"/>"
            );
        }
        draw_times(&mut svg, &heights);
        draw_spans(&mut svg, &lines, &heights, height);
        draw_lines(&mut svg, &lines, &heights);
        svg.push_str("</svg>\n");
        svg
    }
}

fn x_of(node: usize) -> u64 {
    MARGIN + LANE * node as u64
}

/// Where each time stands: to scale, but for times in which nothing happens.
fn heights(lines: &[&(u64, Line)]) -> BTreeMap<u64, u64> {
    let mut heights = BTreeMap::new();
    let (mut y, mut before) = (45, None::<u64>);
    for (at_ms, _) in lines {
        if let Some(before) = before {
            y += (PER_MS * (at_ms - before)).min(GAP_MAX);
        }
        heights.insert(*at_ms, y);
        before = Some(*at_ms);
    }
    heights
}

/// The greatest number of a node that a line names.
fn last_node(line: &Line) -> usize {
    match line {
        Line::Sent { from, to, .. }
        | Line::Arrived { from, to, .. }
        | Line::Cut { from, to }
        | Line::Mended { from, to }
        | Line::Clogged { from, to, .. } => *from.max(to),
        Line::Called { node, .. }
        | Line::Replied { node, .. }
        | Line::Slow { node, .. }
        | Line::Jumped { node, .. }
        | Line::Paused { node }
        | Line::Resumed { node }
        | Line::Down { node }
        | Line::Up { node }
        | Line::Judged { node, .. }
        | Line::Disk { node, .. } => *node,
        Line::Fault { nodes, .. } => nodes.iter().copied().max().unwrap_or(0),
        Line::Healed => 0,
    }
}

fn draw_times(svg: &mut String, heights: &BTreeMap<u64, u64>) {
    let mut last = 0;
    for (at_ms, y) in heights {
        if *y >= last + 12 {
            let _ = writeln!(svg, "<text x=\"4\" y=\"{y}\" fill=\"#888\">{at_ms} ms</text>");
            last = *y;
        }
    }
}

/// Bars on the lanes of nodes that are down or paused.
fn draw_spans(svg: &mut String, lines: &[&(u64, Line)], heights: &BTreeMap<u64, u64>, end: u64) {
    let mut open: BTreeMap<(usize, &str), u64> = BTreeMap::new();
    let mut bar = |node: usize, colour: &str, from: u64, to: u64| {
        let (x, height) = (x_of(node) - 3, to - from);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{from}\" width=\"6\" height=\"{height}\" fill=\"{colour}\"/>"
        );
    };
    for (at_ms, line) in lines {
        let y = heights[at_ms];
        match line {
            Line::Down { node } => drop(open.entry((*node, "#c33")).or_insert(y)),
            Line::Paused { node } => drop(open.entry((*node, "#e90")).or_insert(y)),
            Line::Up { node } => {
                open.remove(&(*node, "#c33")).inspect(|&from| bar(*node, "#c33", from, y));
            }
            Line::Resumed { node } => {
                open.remove(&(*node, "#e90")).inspect(|&from| bar(*node, "#e90", from, y));
            }
            _ => {}
        }
    }
    for ((node, colour), from) in open {
        bar(node, colour, from, end);
    }
}

fn draw_lines(svg: &mut String, lines: &[&(u64, Line)], heights: &BTreeMap<u64, u64>) {
    // Messages under way: where each was sent from, oldest first; a copy arrives later.
    let mut sent: BTreeMap<(usize, usize, RequestId, &str), u64> = BTreeMap::new();
    let right = lines.iter().map(|(_, line)| last_node(line)).max().map_or(MARGIN, x_of) + 20;
    for (at_ms, line) in lines {
        let y = heights[at_ms];
        match line {
            Line::Sent { from, to, message } => {
                sent.insert((*from, *to, message.id, message.body.name()), y);
            }
            Line::Arrived { from, to, message, arrives } => {
                let name = message.body.name();
                let y1 = sent.get(&(*from, *to, message.id, name)).copied().unwrap_or(y);
                let (x1, x2) = (x_of(*from), x_of(*to));
                let style = if *arrives { "" } else { " stroke-dasharray=\"3\"" };
                let (xt, yt) = ((x1 + 2 * x2) / 3, (y1 + 2 * y) / 3);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y}\" stroke=\"#345\" \
                     marker-end=\"url(#tip)\"{style}/>\
                     <text x=\"{xt}\" y=\"{yt}\" fill=\"#345\" font-size=\"8\">{name}</text>"
                );
            }
            Line::Called { node, call_id, .. } => mark(svg, *node, y, "#070", call_id.0),
            Line::Replied { node, call, .. } => mark(svg, *node, y, "#07c", call.0),
            line => {
                let text = line.to_string().replace('&', "&amp;").replace('<', "&lt;");
                let _ = writeln!(svg, "<text x=\"{right}\" y=\"{y}\" fill=\"#a00\">{text}</text>");
            }
        }
    }
}

/// A call or its answer, on the lane of its node.
fn mark(svg: &mut String, node: usize, y: u64, colour: &str, call: u64) {
    let (x, xt) = (x_of(node), x_of(node) + 6);
    let _ = writeln!(
        svg,
        "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>\
         <text x=\"{xt}\" y=\"{y}\" fill=\"{colour}\" font-size=\"8\">{call}</text>"
    );
}
