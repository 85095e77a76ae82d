//! Where labels go, so that none is printed over another.

/// The width of a character at the labels' size in pixels; few fonts have wider ones on average.
const CHARACTER: i32 = 8;
/// Labels are cut to as many characters.
const LONGEST: usize = 48;
/// Rows of labels; what does not fit into them is counted.
const MAX_ROWS: usize = 12;

/// A label in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// Where it begins, in pixels: where what it is about happened.
    pub(super) x: i32,
    /// From the top.
    pub(super) row: usize,
    pub(super) text: String,
}

/// Labels in rows above a plot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) labels: Vec<Label>,
    pub(super) rows: usize,
    /// Labels for which there was no row.
    pub(super) dropped: usize,
}

/// How much room a text takes, with a gap behind it.
pub(super) fn width(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / CHARACTER - 2) * CHARACTER + CHARACTER
}

/// `text`, or as much of it as a picture has room for.
pub(super) fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// Places labels, from left to right. A line that is drawn down from the begin of each, to the plot, crosses no other.
pub(super) fn place(mut marks: Vec<(i32, String)>) -> Labels {
    marks.sort_by_key(|mark| mark.0);
    let mut placed = Labels::default();
    for (x, text) in marks {
        let text = cut(&text, LONGEST);
        // Below all that it begins under: their lines go down to the left of it, its own meets none of them.
        let above = placed.labels.iter().filter(|label| label.x + width(&label.text) > x);
        let row = above.map(|label| label.row + 1).max().unwrap_or(0);
        if row < MAX_ROWS {
            placed.rows = placed.rows.max(row + 1);
            placed.labels.push(Label { x, row, text });
        } else {
            placed.dropped += 1;
        }
    }
    placed
}

/// Places keys in as few rows as they take, and gives where each begins.
pub(super) fn wrap(widths: impl Iterator<Item = i32>, room: i32) -> Vec<(i32, usize)> {
    let (mut x, mut row) = (0, 0);
    let mut places = Vec::new();
    for width in widths {
        if x > 0 && x + width > room {
            (x, row) = (0, row + 1);
        }
        places.push((x, row));
        x += width;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_overlap_and_their_lines_cross_none() {
        let mut random = 1u32;
        for _ in 0..200 {
            let marks = (0..12).map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((random >> 20) as i32 % 800, "x".repeat((random >> 8) as usize % 60))
            });
            let placed = place(marks.collect());
            let ends = |label: &Label| label.x + width(&label.text);
            for (number, a) in placed.labels.iter().enumerate() {
                for b in &placed.labels[number + 1..] {
                    assert!(a.row != b.row || ends(a) <= b.x, "{a:?} {b:?}");
                    assert!(b.row <= a.row || !(b.x..ends(b)).contains(&a.x) || a.x == b.x, "{a:?} under {b:?}");
                    assert!(a.row <= b.row || !(a.x..ends(a)).contains(&b.x), "{b:?} under {a:?}");
                }
            }
        }
    }

    #[test]
    fn marks_at_one_time_are_listed_and_excess_ones_counted() {
        let placed = place(vec![(5, "end of black hole a".to_owned()), (5, "black hole b".to_owned())]);
        assert_eq!(placed.labels.iter().map(|label| label.row).collect::<Vec<_>>(), [0, 1]);
        let placed = place(vec![(5, "reset".to_owned()); 20]);
        assert_eq!((placed.rows, placed.dropped), (MAX_ROWS, 8));
    }

    #[test]
    fn keys_wrap() {
        assert_eq!(wrap([40, 40, 40, 200].into_iter(), 100), [(0, 0), (40, 0), (0, 1), (0, 2)]);
    }
}
