//! Where everything is on the canvas, in CSS pixels, worked out from its size and the shape of the model alone.

use super::Cell;

/// Layers and experts of a model, and so columns and cells of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Layers, each a column.
    pub layers: u32,
    /// Experts of each layer, each a cell.
    pub experts: u32,
}

/// A rectangle in CSS pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// Right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// Lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }

    /// Middle of the width.
    pub fn centre_x(&self) -> f64 {
        self.x + self.width / 2.0
    }

    /// Middle of the height.
    pub fn centre_y(&self) -> f64 {
        self.y + self.height / 2.0
    }

    fn contains(&self, x: f64, y: f64) -> bool {
        x >= self.x && x < self.right() && y >= self.y && y < self.bottom()
    }
}

/// What is at a point of the canvas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hit {
    /// An expert.
    Cell(Cell),
    /// A part of the file, as a share of it from 0 to 1.
    File {
        /// Where the part begins.
        from: f64,
        /// Where it ends.
        to: f64,
    },
}

/// Where a key leads from a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrow {
    /// To the cell on the left.
    Left,
    /// To the cell on the right.
    Right,
    /// To the cell above.
    Up,
    /// To the cell below.
    Down,
}

impl Arrow {
    /// The arrow of a key, by its name in `KeyboardEvent.key`.
    pub fn of_key(key: &str) -> Option<Self> {
        match key {
            "ArrowLeft" => Some(Self::Left),
            "ArrowRight" => Some(Self::Right),
            "ArrowUp" => Some(Self::Up),
            "ArrowDown" => Some(Self::Down),
            _ => None,
        }
    }
}

/// What the legend explains.
pub const LEGEND: [&str; 7] = ["in place", "chosen now", "missed", "not fetched", "coming", "evicted", "KV ring / bar"];

/// Width of a character of the page's mono face, as a share of its size.
pub const CHARACTER: f64 = 0.61;

/// The layout of the core for one canvas size and model, see the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geometry {
    /// Shape of the model that it is for.
    pub shape: Shape,
    /// Size of text.
    pub text_size: f64,
    /// The file from its first byte to its last.
    pub strip: Rect,
    /// Names of the parts of the file, below it.
    pub strip_names: Rect,
    /// The way of the residual stream, with the token's text above its beginning; the line itself is at
    /// [`Geometry::path_y`].
    pub path: Rect,
    /// KV cache of each layer: a square or bar above its column.
    pub kv: Rect,
    /// All cells.
    pub cells: Rect,
    /// Numbers of the layers, below the columns.
    pub layer_names: Rect,
    /// Norm of the residual stream after each layer.
    pub norm: Rect,
    /// What the colours mean.
    pub legend: Rect,
    /// Sub-columns of a column: where there are more experts than a column has room for, they stand side by side.
    pub lanes: u32,
    /// Cells of a sub-column, one below the other.
    pub rows: u32,
    /// Whether there is room at the left for the name of the rows.
    pub has_row_name: bool,
}

impl Geometry {
    /// The layout for a canvas of this size in CSS pixels. One below 320 × 260 is laid out as if it were that large.
    pub fn new(width: f64, height: f64, shape: Shape) -> Self {
        let (width, height) = (width.max(320.0), height.max(260.0));
        // From 0 on a small canvas to 1 on one with room.
        let roomy = ((height - 260.0) / 260.0).clamp(0.0, 1.0);
        let between = |small: f64, large: f64| (small + (large - small) * roomy).round();
        let is_wide = width >= 560.0;
        let side = if is_wide { 22.0 } else { 10.0 };
        let (left, right) = if is_wide { (54.0, width - 64.0) } else { (24.0, width - 40.0) };
        let text_size = if is_wide { 10.5 } else { 10.0 };
        let line = text_size + 3.0;

        let row = |y: f64, height: f64| Rect { x: left, y, width: right - left, height };
        let strip = Rect { x: side, y: between(8.0, 14.0), width: width - 2.0 * side, height: between(12.0, 20.0) };
        let strip_names = Rect { y: strip.bottom() + 2.0, height: line, ..strip };
        let path_y = strip_names.bottom() + between(1.0, 8.0);
        let path = Rect { x: side, y: path_y, width: width - 2.0 * side, height: line + between(5.0, 11.0) };
        let kv = row(path.bottom() + between(2.0, 6.0), between(9.0, 12.0));
        let legend = Rect { x: left, y: height - line - between(2.0, 6.0), width: width - side - left, height: line };
        let norm = Rect { y: legend.y - between(15.0, 24.0), height: between(13.0, 20.0), ..row(0.0, 0.0) };
        let layer_names = row(norm.y - line - 1.0, line);
        let top = kv.bottom() + between(3.0, 8.0);
        let cells = row(top, layer_names.y - 2.0 - top);

        let (lanes, rows) = lanes(cells.width / f64::from(shape.layers.max(1)), cells.height, shape.experts.max(1));
        let has_row_name = is_wide;
        Self {
            shape,
            text_size,
            strip,
            strip_names,
            path,
            kv,
            cells,
            layer_names,
            norm,
            legend,
            lanes,
            rows,
            has_row_name,
        }
    }

    /// Height of the line that the residual stream takes.
    pub fn path_y(&self) -> f64 {
        self.path.bottom() - 4.0
    }

    /// The column of a layer, from its first expert to its last.
    pub fn column(&self, layer: u32) -> Rect {
        let width = self.cells.width / f64::from(self.shape.layers.max(1));
        Rect { x: self.cells.x + f64::from(layer) * width, width, ..self.cells }
    }

    /// The cell of an expert, without the gaps around it.
    pub fn cell(&self, cell: Cell) -> Rect {
        let column = self.column(cell.layer);
        let (lane, row) = (cell.expert / self.rows.max(1), cell.expert % self.rows.max(1));
        let between_columns = gap(column.width, 5.0);
        let width = (column.width - between_columns) / f64::from(self.lanes.max(1));
        let height = column.height / f64::from(self.rows.max(1));
        let between_lanes = if self.lanes > 1 { gap(width, 2.0) } else { 0.0 };
        let between_rows = gap(height, 2.4);
        Rect {
            x: column.x + between_columns / 2.0 + f64::from(lane) * width + between_lanes / 2.0,
            y: column.y + f64::from(row) * height + between_rows / 2.0,
            width: width - between_lanes,
            height: height - between_rows,
        }
    }

    /// Whether cells have room for numbers of their own.
    pub fn has_room_in_cells(&self) -> bool {
        let cell = self.cell(Cell::from((0, 0)));
        self.shape.experts > 0 && cell.height >= self.text_size + 9.0 && cell.width >= 12.0 * self.text_size * CHARACTER
    }

    /// The KV cache of a layer: of a sliding one the square around its ring, of a full one its bar.
    pub fn kv_of(&self, layer: u32, is_sliding: bool) -> Rect {
        let column = self.column(layer);
        let height = self.kv.height.min(column.width - 1.0).max(1.0);
        let width = if is_sliding { height } else { (column.width * 0.7).max(1.0) };
        let height = if is_sliding { height } else { height * 0.62 };
        Rect { x: column.centre_x() - width / 2.0, y: self.kv.centre_y() - height / 2.0, width, height }
    }

    /// How far along the path the stream is after so many layers.
    pub fn path_x(&self, layers_done: f64) -> f64 {
        let column = self.cells.width / f64::from(self.shape.layers.max(1));
        if layers_done <= 0.0 { self.path_begin() } else { self.cells.x + layers_done * column }
    }

    /// Where the path begins: at the token's embedding.
    pub fn path_begin(&self) -> f64 {
        self.cells.x - 14.0
    }

    /// Where the path ends: at the output head.
    pub fn path_end(&self) -> f64 {
        self.cells.right() + 14.0
    }

    /// Every so many layers have room for their number.
    pub fn layer_name_step(&self) -> u32 {
        let digits = if self.shape.layers > 10 { 2.0 } else { 1.0 };
        let needed = digits * self.text_size * CHARACTER + 5.0;
        let column = self.cells.width / f64::from(self.shape.layers.max(1));
        [1, 2, 4, 5, 10, 20].into_iter().find(|&step| column * f64::from(step) >= needed).unwrap_or(50)
    }

    /// The entries of [`LEGEND`] that there is room for, each with the left edge of its sample.
    pub fn legend_items(&self) -> impl Iterator<Item = (usize, f64)> {
        let mut x = self.legend.x;
        let (size, right) = (self.text_size, self.legend.right());
        LEGEND.iter().enumerate().map_while(move |(index, text)| {
            let begin = x;
            let end = begin + LEGEND_SAMPLE + text.chars().count() as f64 * size * CHARACTER;
            x = end + 12.0;
            (end <= right).then_some((index, begin))
        })
    }

    /// What is at a point. Gaps belong to the cells beside them, so that there is always one below the pointer.
    pub fn hit(&self, x: f64, y: f64) -> Option<Hit> {
        if self.strip.contains(x, y) {
            let at = |x: f64| ((x - self.strip.x) / self.strip.width).clamp(0.0, 1.0);
            return Some(Hit::File { from: at(x.floor()), to: at(x.floor() + 1.0) });
        }
        if !self.cells.contains(x, y) || self.shape.layers == 0 || self.shape.experts == 0 {
            return None;
        }
        let column = self.column(0).width;
        let layer = (((x - self.cells.x) / column) as u32).min(self.shape.layers - 1);
        let within = (x - self.column(layer).x - gap(column, 5.0) / 2.0).max(0.0);
        let lane = ((within / ((column - gap(column, 5.0)) / f64::from(self.lanes))) as u32).min(self.lanes - 1);
        let row = (((y - self.cells.y) / self.cells.height * f64::from(self.rows)) as u32).min(self.rows - 1);
        let expert = lane * self.rows + row;
        (expert < self.shape.experts).then_some(Hit::Cell(Cell { layer, expert }))
    }

    /// The cell that an arrow key leads to; at the border, the same one.
    pub fn neighbour(&self, cell: Cell, arrow: Arrow) -> Cell {
        let (lane, row) = (cell.expert / self.rows.max(1), cell.expert % self.rows.max(1));
        let place = |layer: u32, lane: u32, row: u32| Cell { layer, expert: lane * self.rows + row };
        let next = match arrow {
            Arrow::Up if row > 0 => place(cell.layer, lane, row - 1),
            Arrow::Down if row + 1 < self.rows => place(cell.layer, lane, row + 1),
            Arrow::Left if lane > 0 => place(cell.layer, lane - 1, row),
            Arrow::Left if cell.layer > 0 => {
                let last = place(cell.layer - 1, self.lanes - 1, row);
                // The last sub-column may be shorter.
                if last.expert < self.shape.experts {
                    last
                } else {
                    place(cell.layer - 1, self.lanes.saturating_sub(2), row)
                }
            }
            Arrow::Right if place(cell.layer, lane + 1, row).expert < self.shape.experts && lane + 1 < self.lanes => {
                place(cell.layer, lane + 1, row)
            }
            Arrow::Right => place(cell.layer + 1, 0, row),
            Arrow::Up | Arrow::Down | Arrow::Left => cell,
        };
        if next.layer < self.shape.layers && next.expert < self.shape.experts { next } else { cell }
    }
}

/// Width of a sample in the legend, with the gap after it.
pub const LEGEND_SAMPLE: f64 = 13.0;

/// The gap between cells so far apart: what can be seen, and not more than a quarter.
fn gap(pitch: f64, most: f64) -> f64 {
    most.min(pitch * 0.25)
}

/// How many sub-columns make cells easiest to see and to hit, and how many cells each of them has.
fn lanes(column_width: f64, height: f64, experts: u32) -> (u32, u32) {
    let rows_of = |lanes: u32| experts.div_ceil(lanes);
    // A cell looks best at about twice as wide as high.
    let size = |lanes: u32| (column_width / f64::from(lanes) / 2.0).min(height / f64::from(rows_of(lanes)));
    let best = (2..=8.min(experts)).fold(1, |best, lanes| if size(lanes) > size(best) { lanes } else { best });
    (best, rows_of(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 3] =
        [Shape { layers: 6, experts: 8 }, Shape { layers: 24, experts: 32 }, Shape { layers: 36, experts: 128 }];
    const SIZES: [(f64, f64); 8] = [
        (320.0, 260.0),
        (390.0, 300.0),
        (559.0, 420.0),
        (560.0, 420.0),
        (820.0, 520.0),
        (968.0, 540.0),
        (1200.0, 700.0),
        (1600.0, 900.0),
    ];

    fn all() -> impl Iterator<Item = (f64, f64, Geometry)> {
        SHAPES.into_iter().flat_map(|shape| SIZES.map(|(w, h)| (w, h, Geometry::new(w, h, shape))))
    }

    fn cells(geometry: &Geometry) -> impl Iterator<Item = Cell> {
        let Shape { layers, experts } = geometry.shape;
        (0..layers).flat_map(move |layer| (0..experts).map(move |expert| Cell { layer, expert }))
    }

    fn overlap(a: Rect, b: Rect) -> bool {
        const ROUNDING: f64 = 1e-9;
        a.x < b.right() - ROUNDING
            && b.x < a.right() - ROUNDING
            && a.y < b.bottom() - ROUNDING
            && b.y < a.bottom() - ROUNDING
    }

    #[test]
    fn nothing_overlaps_and_all_is_inside_the_canvas() {
        for (width, height, geometry) in all() {
            let g = &geometry;
            let parts = [g.strip, g.strip_names, g.path, g.kv, g.cells, g.layer_names, g.norm, g.legend];
            for (index, part) in parts.iter().enumerate() {
                let is_inside = part.x >= 0.0 && part.y >= 0.0 && part.right() <= width && part.bottom() <= height;
                assert!(is_inside && part.width > 0.0 && part.height > 0.0, "{index} of {width}x{height}: {part:?}");
                for other in &parts[index + 1..] {
                    assert!(!overlap(*part, *other), "{width}x{height} {:?}: {part:?} {other:?}", g.shape);
                }
            }
            assert!(g.path.y < g.path_y() && g.path_y() < g.path.bottom());
            assert!(g.path_begin() >= g.path.x && g.path_end() <= g.path.right());
        }
    }

    #[test]
    fn cells_do_not_overlap_and_are_in_their_area() {
        for (width, height, geometry) in all() {
            let rects: Vec<Rect> = cells(&geometry).map(|cell| geometry.cell(cell)).collect();
            for (index, rect) in rects.iter().enumerate() {
                let area = geometry.cells;
                assert!(rect.x >= area.x && rect.right() <= area.right() + 1e-9, "{rect:?} of {area:?}");
                assert!(rect.y >= area.y && rect.bottom() <= area.bottom() + 1e-9, "{rect:?} of {area:?}");
                assert!(rect.width > 0.7 && rect.height > 0.7, "{width}x{height} {:?}: {rect:?}", geometry.shape);
                // Those of the same and of the next column are near enough to overlap.
                let near = &rects[index + 1..(index + 1 + 2 * geometry.shape.experts as usize).min(rects.len())];
                assert!(near.iter().all(|other| !overlap(*rect, *other)), "{width}x{height}: {index}");
            }
            for (layer, is_sliding) in (0..geometry.shape.layers).zip([true, false].into_iter().cycle()) {
                let (kv, column) = (geometry.kv_of(layer, is_sliding), geometry.column(layer));
                assert!(kv.x >= column.x && kv.right() <= column.right(), "{kv:?} {column:?}");
                assert!(kv.y >= geometry.kv.y - 1e-9 && kv.bottom() <= geometry.kv.bottom() + 1e-9);
            }
        }
    }

    #[test]
    fn cells_of_the_largest_model_can_be_seen() {
        let geometry = Geometry::new(820.0, 520.0, SHAPES[2]);
        let rect = geometry.cell(Cell { layer: 35, expert: 127 });
        assert!(rect.width >= 2.0 && rect.height >= 2.0, "{rect:?}");
        assert!(geometry.lanes > 1, "128 cells side by side are larger than one below the other");
        assert_eq!(Geometry::new(968.0, 540.0, SHAPES[1]).lanes, 1, "32 have room in a column");
        let rooms = SHAPES.map(|shape| Geometry::new(968.0, 540.0, shape).has_room_in_cells());
        assert_eq!(rooms, [true, false, false], "numbers are written in the cells of a small model only");
    }

    #[test]
    fn every_cell_is_hit_in_its_middle_and_the_strip_gives_a_share_of_the_file() {
        for (width, _, geometry) in all() {
            for cell in cells(&geometry) {
                let rect = geometry.cell(cell);
                assert_eq!(geometry.hit(rect.centre_x(), rect.centre_y()), Some(Hit::Cell(cell)), "{width}");
                assert_eq!(geometry.hit(rect.x + 1e-6, rect.y + 1e-6), Some(Hit::Cell(cell)), "{width}");
                assert_eq!(geometry.hit(rect.right() - 1e-6, rect.bottom() - 1e-6), Some(Hit::Cell(cell)), "{width}");
            }
            let strip = geometry.strip;
            let Some(Hit::File { from, to }) = geometry.hit(strip.centre_x(), strip.centre_y()) else {
                panic!("the strip was missed")
            };
            assert!(from <= 0.5 && to >= 0.5 && to - from < 0.01, "{from} {to}");
            assert_eq!(geometry.hit(0.0, 0.0), None);
            assert_eq!(geometry.hit(-5.0, f64::NAN), None);
        }
        let none = Geometry::new(800.0, 500.0, Shape::default());
        assert_eq!(none.hit(none.cells.centre_x(), none.cells.centre_y()), None, "no model, no cell");
    }

    #[test]
    fn arrows_lead_to_the_nearest_cell_and_reach_all_of_them() {
        for (_, _, geometry) in all() {
            for cell in cells(&geometry) {
                let from = geometry.cell(cell);
                for (arrow, dx, dy) in [
                    (Arrow::Left, -1.0, 0.0),
                    (Arrow::Right, 1.0, 0.0),
                    (Arrow::Up, 0.0, -1.0),
                    (Arrow::Down, 0.0, 1.0),
                ] {
                    let next = geometry.neighbour(cell, arrow);
                    let to = geometry.cell(next);
                    if next != cell {
                        assert!(
                            (to.centre_x() - from.centre_x()) * dx >= 0.0
                                && (to.centre_y() - from.centre_y()) * dy >= 0.0
                        );
                        assert!(if dx == 0.0 { to.x == from.x } else { to.y == from.y }, "{arrow:?} is straight");
                    }
                }
            }
            let mut seen = std::collections::BTreeSet::from([Cell { layer: 0, expert: 0 }]);
            let mut new = vec![Cell { layer: 0, expert: 0 }];
            while let Some(cell) = new.pop() {
                for arrow in [Arrow::Right, Arrow::Down, Arrow::Left, Arrow::Up] {
                    let next = geometry.neighbour(cell, arrow);
                    if seen.insert(next) {
                        new.push(next);
                    }
                }
            }
            assert_eq!(seen.len(), (geometry.shape.layers * geometry.shape.experts) as usize);
        }
        assert_eq!(Arrow::of_key("ArrowUp"), Some(Arrow::Up));
        assert_eq!(Arrow::of_key("a"), None);
    }

    #[test]
    fn numbers_of_layers_and_the_legend_have_room() {
        for (width, _, geometry) in all() {
            let step = geometry.layer_name_step();
            let pitch = geometry.column(0).width * f64::from(step);
            assert!(pitch >= 2.0 * geometry.text_size * CHARACTER || geometry.shape.layers <= 10, "{width}: {pitch}");
            let items: Vec<_> = geometry.legend_items().collect();
            assert!(items.len() >= 3, "{width}: {items:?}");
            for pair in items.windows(2) {
                let end = pair[0].1 + LEGEND_SAMPLE + LEGEND[pair[0].0].len() as f64 * geometry.text_size * CHARACTER;
                assert!(end < pair[1].1);
            }
        }
        assert_eq!(Geometry::new(968.0, 540.0, SHAPES[1]).legend_items().count(), LEGEND.len());
    }
}
