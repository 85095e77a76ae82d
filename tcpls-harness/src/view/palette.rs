//! The colors of TCP connections: the same on pages and in plots, and told apart with all common kinds of color blindness.

/// On white, by the number of the TCP connection; they repeat. `style.css` has the same, and those for a dark page.
pub const TCPS: [[u8; 3]; 6] = [
    [0x00, 0x61, 0xa8],
    [0xcc, 0x7a, 0x00],
    [0x00, 0x8f, 0x68],
    [0xa8, 0x32, 0x7a],
    [0x2f, 0x97, 0xd3],
    [0x5b, 0x2d, 0x8a],
];
/// What fails.
pub const TROUBLE: [u8; 3] = [0xb9, 0x48, 0x00];
/// Text and sums.
pub const TEXT: [u8; 3] = [0x1c, 0x21, 0x28];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    type Color = [f64; 3];

    /// How people see colors: all, and without one kind of cones (Machado et al. 2009, severity 1), on linear RGB.
    const SIGHTS: [(&str, [Color; 3]); 4] = [
        ("all", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        ),
        (
            "deuteranopia",
            [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        ),
        (
            "tritanopia",
            [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
        ),
    ];

    fn times(matrix: &[Color; 3], color: Color) -> Color {
        matrix.map(|row| row.iter().zip(color).map(|(a, b)| a * b).sum())
    }

    fn linear(color: [u8; 3]) -> Color {
        color.map(|part| match f64::from(part) / 255.0 {
            part if part <= 0.04045 => part / 12.92,
            part => ((part + 0.055) / 1.055).powf(2.4),
        })
    }

    /// Oklab: distances in it are about those that people see.
    fn oklab(color: Color) -> Color {
        const CONES: [Color; 3] = [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ];
        const LAB: [Color; 3] = [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ];
        times(&LAB, times(&CONES, color.map(|part| part.max(0.0))).map(f64::cbrt))
    }

    fn distance(a: [u8; 3], b: [u8; 3], sight: &[Color; 3]) -> f64 {
        let [a, b] = [a, b].map(|color| oklab(times(sight, linear(color))));
        a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    }

    /// The contrast of WCAG 2.1.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let [a, b] = [a, b].map(|color| {
            let [red, green, blue] = linear(color);
            0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05
        });
        a.max(b) / a.min(b)
    }

    /// The colors of the light and of the dark page, by name.
    fn themes() -> [HashMap<&'static str, [u8; 3]>; 2] {
        let style = include_str!("page/style.css");
        let mut blocks = style.split('}');
        [(); 2].map(|()| {
            let entries = blocks.next().unwrap().split(['{', ';']).filter_map(|entry| entry.trim().strip_prefix("--"));
            let color = |value: &str| Some(u32::from_str_radix(value.strip_prefix('#')?, 16).ok()?.to_be_bytes());
            let named = entries.filter_map(|entry| {
                let (name, value) = entry.split_once(": ")?;
                let [_, red, green, blue] = color(value).filter(|_| value.len() == 7)?;
                Some((name, [red, green, blue]))
            });
            named.collect()
        })
    }

    fn tcps(theme: &HashMap<&str, [u8; 3]>) -> Vec<[u8; 3]> {
        (0..TCPS.len()).map(|number| theme[&*format!("tcp-{number}")]).collect()
    }

    #[test]
    fn plots_and_pages_have_the_same_colors() {
        let [light, dark] = themes();
        assert_eq!((tcps(&light), light["trouble"], light["text"]), (TCPS.to_vec(), TROUBLE, TEXT));
        assert!(!light.contains_key("tcp-6") && dark.len() >= 14, "{dark:?}");
    }

    #[test]
    fn tcp_connections_can_be_told_apart_whatever_cones_one_has() {
        for theme in themes() {
            let tcps = tcps(&theme);
            for (number, color) in tcps.iter().enumerate() {
                for (sight, matrix) in &SIGHTS {
                    for (other, another) in tcps.iter().enumerate().skip(number + 1) {
                        let distance = distance(*color, *another, matrix);
                        assert!(distance > 0.065, "{number} and {other}, {sight}: {distance:.3}");
                    }
                }
            }
        }
    }

    #[test]
    fn text_and_marks_have_enough_contrast() {
        for theme in themes() {
            for page in ["page", "panel"] {
                for text in ["text", "muted", "accent", "trouble", "recovery", "rtt"] {
                    let contrast = contrast(theme[text], theme[page]);
                    assert!(contrast >= 4.5, "{text} on {page}: {contrast:.2}");
                }
                for (number, color) in tcps(&theme).into_iter().enumerate() {
                    let contrast = contrast(color, theme[page]);
                    assert!(contrast >= 3.0, "TCP connection {number} on {page}: {contrast:.2}");
                }
            }
        }
    }
}
