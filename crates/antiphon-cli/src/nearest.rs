//! The name that was probably meant.

/// The candidate nearest to `name`, if it is near enough to be a slip: at most a third of its letters differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(2);
    let measured = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove or replace to make `to` of `from` (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (place, letter) in from.chars().enumerate() {
        let mut diagonal = place;
        let mut left = place + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = place + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_single_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("text.words", "text.words"), 0);
        assert_eq!(distance("text.wrods", "text.words"), 2);
    }

    #[test]
    fn only_a_slip_is_taken_for_another_name() {
        let known = ["text.words", "text.merge", "math.fib"];
        assert_eq!(nearest("text.word", known), Some("text.words"));
        assert_eq!(nearest("math.fb", known), Some("math.fib"));
        assert_eq!(nearest("billing.charge", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
