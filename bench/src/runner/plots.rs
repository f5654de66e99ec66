//! The plots of `docs/performance.md`: for each table a line of dots, one for each contender, with the spread over its
//! runs; on a logarithmic scale, because contenders are orders of magnitude apart.
//!
//! A plot is read on light and on dark pages: it has a background of its own, and a style that knows both.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::catalogue::{Column, Figure};
use super::table;
use crate::results::{Line, Results, Spread};

const WIDTH: i32 = 960;
const ROW: i32 = 28;
const ABOVE: i32 = 84;
const BELOW: i32 = 40;
/// From where to where the scale goes; names stand before it, values behind.
const SCALE: Range<i32> = 350..780;

const PAPER: Ink = Ink {
    light: 0xff_ff_ff,
    dark: 0x0d_11_17,
};
const TEXT: Ink = Ink {
    light: 0x1f_23_28,
    dark: 0xe6_ed_f3,
};
const MUTED: Ink = Ink {
    light: 0x59_63_6e,
    dark: 0x9d_a7_b3,
};
const GRID: Ink = Ink {
    light: 0xd9_de_e3,
    dark: 0x2a_31_3a,
};
const OURS: Ink = Ink {
    light: 0x09_69_da,
    dark: 0x58_a6_ff,
};
const LIMIT: Ink = Ink {
    light: 0x1a_7f_37,
    dark: 0x3f_b9_50,
};
const PEER: Ink = Ink {
    light: 0xbc_4c_00,
    dark: 0xf0_88_3e,
};
const INKS: [Ink; 7] = [PAPER, TEXT, MUTED, GRID, OURS, LIMIT, PEER];

/// A colour, on a light page and on a dark one.
#[derive(Debug, Clone, Copy)]
struct Ink {
    light: u32,
    dark: u32,
}

impl Ink {
    fn color(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// Writes a file for each table that has something to compare: its name, and the figure's.
pub(super) fn write_all(results: &Results, folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut written = Vec::new();
    for figure in table::figures(results) {
        for (setting, lines) in table::by_setting(results, figure) {
            let values: String = setting.values().map(|value| format!("-{value}")).collect();
            let title = format!("{}{}", figure.title, table::setting(setting));
            if let Some(text) = plot(figure, &title, &lines)? {
                let file = format!("performance-{}{values}.svg", figure.name);
                std::fs::write(folder.join(&file), text)?;
                written.push((file, figure.name.to_owned()));
            }
        }
    }
    Ok(written)
}

/// One line of a plot.
struct Dot {
    name: String,
    rank: u8,
    value: Spread,
}

fn plot(figure: &Figure, title: &str, lines: &[&Line]) -> anyhow::Result<Option<String>> {
    let head = &figure.columns[0];
    let dots = lines.iter().filter_map(|line| {
        let value = line.value(head.value).filter(|value| value.least > 0.0)?;
        Some(Dot {
            name: line.name(),
            rank: table::rank(line),
            value,
        })
    });
    let mut dots: Vec<Dot> = dots.collect();
    if dots.len() < 3 {
        return Ok(None);
    }
    dots.sort_by(|a, b| b.value.median.total_cmp(&a.value.median));
    if head.better == super::catalogue::Better::Lower {
        dots.reverse();
    }
    let height = ABOVE + ROW * i32::try_from(dots.len())? + BELOW;
    let mut text = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area, head, title, &dots)?;
        area.present()?;
    }
    Ok(Some(for_both_pages(&text)))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw(area: &Area, head: &Column, title: &str, dots: &[Dot]) -> anyhow::Result<()> {
    area.fill(&PAPER.color())?;
    label(area, title, (20, 24), 19.0, TEXT, HPos::Left)?;
    legend(area, dots)?;
    let scale = Scale::of(dots);
    let bottom = ABOVE + ROW * i32::try_from(dots.len())?;
    for tick in scale.ticks() {
        let x = scale.place(tick);
        area.draw(&PathElement::new(
            [(x, ABOVE - 6), (x, bottom)],
            GRID.color(),
        ))?;
        label(
            area,
            &tick_name(tick),
            (x, bottom + 14),
            13.0,
            MUTED,
            HPos::Center,
        )?;
    }
    label(
        area,
        head.head,
        (SCALE.end + 20, ABOVE - 2),
        13.0,
        MUTED,
        HPos::Left,
    )?;
    for (dot, row) in dots.iter().zip(0..) {
        let y = ABOVE + ROW * row + ROW / 2;
        let (least, most) = (scale.place(dot.value.least), scale.place(dot.value.most));
        let name_ink = if dot.rank == 0 { OURS } else { TEXT };
        label(
            area,
            &dot.name,
            (SCALE.start - 14, y),
            14.0,
            name_ink,
            HPos::Right,
        )?;
        area.draw(&PathElement::new(
            [(least, y), (most, y)],
            ink(dot.rank).color().stroke_width(2),
        ))?;
        mark(area, dot.rank, (scale.place(dot.value.median), y))?;
        let value = table::grouped(dot.value.median, head.decimals);
        label(
            area,
            &value,
            (SCALE.end + 20, y),
            14.0,
            name_ink,
            HPos::Left,
        )?;
    }
    Ok(())
}

/// Who is who; not by colour alone.
fn legend(area: &Area, dots: &[Dot]) -> anyhow::Result<()> {
    let mut x = 26;
    for (rank, name) in [(0, "Sidestream"), (1, "physical limit"), (2, "peers")] {
        if dots.iter().any(|dot| dot.rank == rank) {
            mark(area, rank, (x, 54))?;
            label(area, name, (x + 14, 54), 13.0, MUTED, HPos::Left)?;
            x += 130;
        }
    }
    label(
        area,
        "the line is from the least to the most of the runs",
        (x, 54),
        13.0,
        MUTED,
        HPos::Left,
    )?;
    Ok(())
}

fn mark(area: &Area, rank: u8, (x, y): (i32, i32)) -> anyhow::Result<()> {
    let style = ink(rank).color().filled();
    match rank {
        0 => area.draw(&Circle::new((x, y), 6, style))?,
        1 => {
            let corners = [(x, y - 7), (x + 7, y), (x, y + 7), (x - 7, y)];
            area.draw(&Polygon::new(corners, style))?;
        }
        _ => area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], style))?,
    }
    Ok(())
}

fn ink(rank: u8) -> Ink {
    match rank {
        0 => OURS,
        1 => LIMIT,
        _ => PEER,
    }
}

fn label(
    area: &Area,
    text: &str,
    at: (i32, i32),
    size: f64,
    ink: Ink,
    side: HPos,
) -> anyhow::Result<()> {
    let style = ("sans-serif", size).into_font().color(&ink.color());
    let style = style.pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), at, style))?)
}

/// Powers of ten, as far as the values go.
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    fn of(dots: &[Dot]) -> Self {
        let least = dots
            .iter()
            .map(|dot| dot.value.least)
            .fold(f64::INFINITY, f64::min);
        let most = dots.iter().map(|dot| dot.value.most).fold(0.0, f64::max);
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        Self {
            first,
            last: last.max(first + 1),
        }
    }

    fn place(&self, value: f64) -> i32 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        SCALE.start + (share * f64::from(SCALE.end - SCALE.start)).round() as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10_f64.powi(power))
    }
}

fn tick_name(value: f64) -> String {
    let decimals = if value < 1.0 {
        (-value.log10()).round() as usize
    } else {
        0
    };
    table::grouped(value, decimals)
}

/// Whoever shows it dark gets the other inks.
fn for_both_pages(svg: &str) -> String {
    let rules: String = INKS
        .iter()
        .flat_map(|ink| ["fill", "stroke"].map(|what| (what, ink)))
        .map(|(what, Ink { light, dark })| {
            format!("[{what}=\"#{light:06X}\"]{{{what}:#{dark:06X}}}")
        })
        .collect();
    let style = format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>\n");
    match svg.find(">\n") {
        Some(end) => format!("{}{style}{}", &svg[..end + 2], &svg[end + 2..]),
        None => svg.to_owned(),
    }
}
