//! What came out beside what is to be reached: a table in Markdown, and a drawing.

use std::path::Path;

use plotters::prelude::*;

/// A figure and its reach.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    /// As it was measured, with its unit and what it is compared with.
    pub(crate) measured: String,
    pub(crate) value: f64,
    pub(crate) reach: Reach,
}

/// What a figure is to be.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    /// How much better than the reach it is: from 1 on it is met.
    fn margin(&self) -> f64 {
        match self.reach {
            Reach::AtLeast(reach) => self.value / reach,
            Reach::AtMost(reach) => reach / self.value,
        }
    }

    fn reach(&self) -> String {
        match self.reach {
            Reach::AtLeast(reach) => format!("at least {reach}"),
            Reach::AtMost(reach) => format!("at most {reach}"),
        }
    }
}

pub(crate) fn print(figures: &[Figure]) {
    println!("| what | measured | reach | |");
    println!("| --- | --- | --- | --- |");
    for figure in figures {
        let Figure { what, measured, .. } = figure;
        let met = if figure.margin() >= 1.0 { "met" } else { "not met" };
        println!("| {what} | {measured} | {} | {met} |", figure.reach());
    }
}

const INK: RGBColor = RGBColor(0x22, 0x2a, 0x35);
const FAINT: RGBColor = RGBColor(0xd5, 0xda, 0xe0);
const MET: RGBColor = RGBColor(0x1b, 0x7f, 0x6b);
const MISSED: RGBColor = RGBColor(0xb8, 0x52, 0x2b);

/// A bar for each figure: how many times better than its reach.
pub(crate) fn draw(figures: &[Figure], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let height = 90 + 30 * figures.len() as i32;
    let area = SVGBackend::new(path, (900, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let margins = || figures.iter().map(|figure| figure.margin().log2());
    let bottom = margins().fold(-1.0, f64::min).floor();
    let top = margins().fold(1.0, f64::max).ceil();
    let (left, right, head, foot) = (360.0, 840.0, 50, height - 40);
    let x = |power: f64| (left + (power - bottom) / (top - bottom) * (right - left)) as i32;
    let text = ("sans-serif", 14).into_font().color(&INK);
    let title = ("sans-serif", 17).into_font().color(&INK);
    area.draw_text("times better than what is to be reached", &title, (20, 14))?;
    for power in bottom as i32..=top as i32 {
        let color = if power == 0 { INK } else { FAINT };
        let at = x(f64::from(power));
        area.draw(&PathElement::new([(at, head), (at, foot)], color.stroke_width(1)))?;
        let label =
            if power < 0 { format!("1/{}", 1 << -power) } else { format!("{}", 1 << power) };
        area.draw_text(&label, &text, (at - 6, foot + 8))?;
    }
    for (row, figure) in figures.iter().enumerate() {
        let y = head + 15 + 30 * row as i32;
        let margin = figure.margin();
        let color = if margin >= 1.0 { MET } else { MISSED };
        area.draw_text(figure.what, &text, (20, y - 8))?;
        let bar = [(x(0.0), y - 6), (x(margin.log2()), y + 6)];
        area.draw(&Rectangle::new(bar, color.filled()))?;
        area.draw_text(&format!("{margin:.2}"), &text, (right as i32 + 10, y - 8))?;
    }
    area.present()?;
    Ok(())
}
