//! Draws `benches/figures.svg` from what the benches `hot_path` and `sustained` have written at their last whole run. See
//! `benches/README.md`.
#![allow(clippy::print_stdout, reason = "it says what it has drawn")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]
#![allow(clippy::cast_precision_loss, reason = "there are few bars")]

mod support;

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// A bench, and what its figures are.
const PANELS: [(&str, &str); 2] = [
    (
        "hot_path",
        "nanoseconds added to a span of 10 fields (fastrace: the whole span)",
    ),
    ("sustained", "rows a second into Postgres"),
];

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const PEER: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

const WIDTH: u32 = 800;
const HEAD: u32 = 40;
const BAR: u32 = 34;
const FOOT: u32 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let panels: Vec<_> = PANELS
        .iter()
        .map(|(bench, title)| (title, figures(bench)))
        .collect();
    let height = |bars: usize| HEAD + FOOT + BAR * u32::try_from(bars).unwrap_or(u32::MAX);
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures.svg");
    let whole = panels.iter().map(|(_, bars)| height(bars.len())).sum();
    let mut rest = SVGBackend::new(&to, (WIDTH, whole)).into_drawing_area();
    rest.fill(&WHITE)?;
    for (title, bars) in &panels {
        let (panel, below) = rest.split_vertically(height(bars.len()));
        draw(&panel, title, bars)?;
        rest = below;
    }
    rest.present()?;
    println!("drawn: {}", to.display());
    Ok(())
}

/// The figures of a bench by their names, least first.
fn figures(bench: &str) -> Vec<(String, f64)> {
    let path = support::figures_folder().join(bench).with_extension("csv");
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("{} is not there: run the bench {bench}", path.display()));
    let mut figures: Vec<_> = text
        .lines()
        .map(|line| {
            let (name, figure) = line.split_once(',').expect("a name and a figure");
            (name.to_owned(), figure.parse().expect("a figure"))
        })
        .collect();
    figures.sort_by(|(_, left): &(_, f64), (_, right)| left.total_cmp(right));
    figures
}

/// Draws bars on a scale of powers of ten, the first at the top.
fn draw(
    panel: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    bars: &[(String, f64)],
) -> Result<(), Box<dyn Error>> {
    let all = || bars.iter().map(|(_, figure)| *figure);
    let least = 10_f64.powf(all().fold(f64::MAX, f64::min).log10().floor());
    // A third of the panel is for the names of the longest bars.
    let most = all().fold(0.0, f64::max) * 12.0;
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .build_cartesian_2d((least..most).log_scale(), 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|figure| format!("{figure:.0}"))
        .draw()?;
    for (index, (name, figure)) in bars.iter().enumerate() {
        let top = (bars.len() - index) as f64;
        let color = match name.as_str() {
            "tracing-audit" => OURS,
            _ => PEER,
        };
        let corners = [(least, top - 0.85), (*figure, top - 0.15)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
        chart.draw_series([Text::new(
            format!(" {name}: {figure:.0}"),
            (*figure, top - 0.35),
            ("sans-serif", 14),
        )])?;
    }
    Ok(())
}
