//! What came out: a table in Markdown, and the ratios as a drawing.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::contest::Figures;
use crate::load::Measured;

/// A contest's name and what it measured.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// "1 node" or "3 nodes".
    pub(crate) nodes: &'static str,
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<Figures>,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of the first entry's rates those of another, round by round: least, median, most.
fn ratios(first: &Figures, other: &Figures) -> [f64; 3] {
    let mut all: Vec<f64> = first
        .rounds
        .iter()
        .zip(&other.rounds)
        .map(|(ours, theirs)| ours.rate / theirs.rate)
        .collect();
    all.sort_by(f64::total_cmp);
    [0, all.len() / 2, all.len() - 1].map(|at| all[at])
}

/// Prints the table.
pub(crate) fn print(outcomes: &[Outcome]) {
    println!("| | load | system | requests/s | p50 ms | p99 ms | server CPU µs/request | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for Outcome { nodes, name, figures } in outcomes {
        for (place, entry) in figures.iter().enumerate() {
            let of = |figure: fn(&Measured) -> f64| median(entry.rounds.iter().map(figure));
            let ratio = match place {
                0 => String::new(),
                _ => {
                    let [least, median, most] = ratios(&figures[0], entry);
                    format!("{median:.2} ({least:.2} to {most:.2})")
                }
            };
            println!(
                "| {nodes} | {name} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {ratio} |",
                entry.entry,
                of(|measured| measured.rate),
                of(|measured| measured.p50_ms),
                of(|measured| measured.p99_ms),
                of(|measured| measured.cpu_us),
            );
        }
    }
}

const BACKGROUND: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x22, 0x2a, 0x35);
const FAINT: RGBColor = RGBColor(0xd5, 0xda, 0xe0);
const AHEAD: RGBColor = RGBColor(0x1b, 0x7f, 0x6b);
const BEHIND: RGBColor = RGBColor(0xb8, 0x52, 0x2b);

/// Draws the ratios: a row for each system compared with, on a scale where twice and half as fast are
/// equally far from 1.
pub(crate) fn draw(outcomes: &[Outcome], path: &Path) -> anyhow::Result<()> {
    let rows: Vec<(String, [f64; 3])> = outcomes
        .iter()
        .flat_map(|Outcome { nodes, name, figures }| {
            figures.iter().skip(1).map(move |entry| {
                (format!("{nodes}, {name}: {}", entry.entry), ratios(&figures[0], entry))
            })
        })
        .collect();
    if rows.is_empty() {
        return Err(anyhow!("nothing was compared"));
    }
    let height = 90 + 26 * u32::try_from(rows.len())?;
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&BACKGROUND)?;
    let bottom = rows.iter().map(|(_, [least, ..])| *least).fold(0.25, f64::min).log2().floor();
    let top = rows.iter().map(|(_, [.., most])| *most).fold(4.0, f64::max).log2().ceil();
    let (left, right, head, foot) = (330.0, 850.0, 50.0, f64::from(height) - 40.0);
    let x = |ratio: f64| (left + (ratio.log2() - bottom) / (top - bottom) * (right - left)) as i32;
    let text = ("sans-serif", 14).into_font().color(&INK);
    let title = ("sans-serif", 17).into_font().color(&INK);
    area.draw_text("requests a second of Merganser, divided by those of …", &title, (20, 14))?;
    for power in bottom as i32..=top as i32 {
        let ratio = 2_f64.powi(power);
        let color = if power == 0 { INK } else { FAINT };
        let line = [(x(ratio), head as i32), (x(ratio), foot as i32)];
        area.draw(&PathElement::new(line, color.stroke_width(1)))?;
        let label =
            if power < 0 { format!("1/{}", 1 << -power) } else { format!("{}", 1 << power) };
        area.draw_text(&label, &text, (x(ratio) - 6, foot as i32 + 8))?;
    }
    for (row, (name, [least, median, most])) in rows.iter().enumerate() {
        let y = head as i32 + 14 + 26 * i32::try_from(row)?;
        let color = if *median >= 1.0 { AHEAD } else { BEHIND };
        area.draw_text(name, &text, (20, y - 8))?;
        area.draw(&PathElement::new([(x(*least), y), (x(*most), y)], color.stroke_width(3)))?;
        area.draw(&Circle::new((x(*median), y), 5, color.filled()))?;
        area.draw_text(&format!("{median:.2}"), &text, (right as i32 + 10, y - 8))?;
    }
    area.present()?;
    Ok(())
}
