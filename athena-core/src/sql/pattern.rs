//! The patterns of SHOW: `*` stands for anything, `|` between alternatives, case does not matter.

/// Whether the name fits the pattern.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    pattern.to_lowercase().split('|').any(|one| fits_one(&one.chars().collect::<Vec<_>>(), &name))
}

fn fits_one(pattern: &[char], name: &[char]) -> bool {
    // Where the last star stood, and how much of the name it has swallowed.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if Some(c) == name.get(seen) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((star_at, swallowed)) => {
                    star = Some((star_at, swallowed + 1));
                    at = star_at + 1;
                    seen = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_alternatives() {
        for (pattern, name, expected) in [
            ("fl*", "flights", true),
            ("*s", "flights", true),
            ("*gh*s", "flights", true),
            ("a|Flights", "flights", true),
            ("fl", "flights", false),
            ("*x*", "flights", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
