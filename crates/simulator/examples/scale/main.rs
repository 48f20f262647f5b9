//! Figures of scale, simulated: how even a ring is and what a join moves, from 4 to 1,000 members; what
//! waits for a node that was away, and what it costs to find what it missed where nothing waited; how often
//! requests find too few owners, and reads are stale, by r and w and by how much nodes fail.
//!
//! Prints an SVG, and the numbers to standard error.

mod charts;
mod outages;
mod quorums;
mod rings;

use plotters::prelude::*;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let rings = rings::measure();
    rings::print(&rings);
    let outages = outages::measure();
    outages::print(&outages);
    let quorums = quorums::measure();
    quorums::print(&quorums);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (1_140, 760)).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((2, 3));
        rings::draw(&panels[0], &panels[1], &rings)?;
        outages::draw(&panels[2], &panels[3], &outages)?;
        quorums::draw(&panels[4], &panels[5], &quorums)?;
        area.present()?;
    }
    println!("{}", svg.trim_end());
    Ok(())
}
