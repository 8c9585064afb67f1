//! Draws `benches/figures.svg` from what the benches `hot_path` and `sustained` have written at their last whole run. See
//! `benches/README.md`.
#![allow(clippy::print_stdout, reason = "it says what it has drawn")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]
#![allow(clippy::cast_precision_loss, reason = "there are few bars")]

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use testkit::benches;

/// A bench, and what its figures are.
const PANELS: [(&str, &str); 2] = [
    (
        "hot_path",
        "nanoseconds added to a span of 10 fields (fastrace: the whole span) — less is better",
    ),
    ("sustained", "rows a second into Postgres — more is better"),
];

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const PEER: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

const WIDTH: u32 = 800;
const HEAD: u32 = 40;
const BAR: u32 = 34;
const FOOT: u32 = 40;
/// The room for the names, left of the bars.
const NAMES: u32 = 200;
/// What is free between a name and its bar, and between a bar and its figure.
const GAP: i32 = 8;

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
    let path = benches::figures_folder().join(bench).with_extension("csv");
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

/// Draws bars on a scale of powers of ten, the first at the top: names at the left, figures at their ends.
fn draw(
    panel: &DrawingArea<SVGBackend, Shift>,
    title: &str,
    bars: &[(String, f64)],
) -> Result<(), Box<dyn Error>> {
    let all = || bars.iter().map(|(_, figure)| *figure);
    let least = 10_f64.powf(all().fold(f64::MAX, f64::min).log10().floor());
    // The figure of the longest bar has to be beside it.
    let most = all().fold(0.0, f64::max) * 3.0;
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(NAMES)
        .build_cartesian_2d((least..most).log_scale(), 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|figure| format!("{figure:.0}"))
        .draw()?;
    let text = ("sans-serif", 14).into_text_style(panel);
    for (index, (name, figure)) in bars.iter().enumerate() {
        let top = (bars.len() - index) as f64;
        let color = match name.as_str() {
            "tracing-audit" => OURS,
            _ => PEER,
        };
        let corners = [(least, top - 0.85), (*figure, top - 0.15)];
        chart.draw_series([Rectangle::new(corners, color.filled())])?;
        let (left, middle) = chart.backend_coord(&(least, top - 0.5));
        let (right, _) = chart.backend_coord(&(*figure, top - 0.5));
        let sides = [
            (name.clone(), left - GAP, HPos::Right),
            (format!("{figure:.0}"), right + GAP, HPos::Left),
        ];
        for (said, x, side) in sides {
            let style = text.pos(Pos::new(side, VPos::Center));
            let (x0, y0) = panel.get_base_pixel();
            panel.draw(&Text::new(said, (x - x0, middle - y0), style))?;
        }
    }
    Ok(())
}
