//! Pages of lists in any order that the list has, and cursors that know the order they were made in.
//!
//! Lists that can be long are sorted by the store. The others are small: for an order that the store does not keep, all
//! of the list is looked at for each page, and no more of it is held than that page.

use jiff::Timestamp;
use ostler_api::{ListPage, PageRequest, Sort, SortKey};
use ostler_store::{Cursor, Page};

use crate::ServiceError;

/// Rows looked at in one go.
const BATCH: u32 = 500;

/// Stands between a cursor and its order, which the order of the list when nothing is said does without. No name has it.
const MARK: char = '~';

/// A page of rows as a page of views.
pub(crate) fn list_page<R, T>(page: Page<R>, view: impl FnMut(R) -> T) -> ListPage<T> {
    let complete = page.next.is_none();
    ListPage { items: page.items.into_iter().map(view).collect(), next: page.next.map(|c| c.0), complete }
}

/// The store's cursor in what a caller hands back.
///
/// # Errors
/// It was made in another order.
pub(crate) fn cursor<K: SortKey>(asked: &PageRequest<K>) -> Result<Option<Cursor>, ServiceError> {
    let Some(text) = asked.after.as_deref() else { return Ok(None) };
    let marked = text.rsplit_once(MARK).and_then(|(cursor, order)| Some((cursor, order.parse().ok()?)));
    let (cursor, made): (_, Sort<K>) = marked.unwrap_or((text, Sort::default()));
    if made == asked.sort {
        return Ok(Some(Cursor(cursor.to_owned())));
    }
    Err(ServiceError::OtherOrder {
        cursor: text.to_owned(),
        made: made.to_string(),
        asked: asked.sort.to_string(),
    })
}

/// A page whose cursor knows its order.
pub(crate) fn marked<R, K: SortKey>(page: Page<R>, sort: Sort<K>) -> Page<R> {
    let next = page.next.map(|Cursor(text)| match sort.is_default() {
        true => Cursor(text),
        false => Cursor(format!("{text}{MARK}{sort}")),
    });
    Page { items: page.items, next }
}

/// A page of a small list, which the store keeps in the order that counts when nothing is said. `place` says where a
/// row stands in the order that is asked for; no two rows have the same place.
///
/// # Errors
/// The store's, or the cursor was made in another order.
pub(crate) fn sorted<R, K: SortKey>(
    asked: &PageRequest<K>,
    mut read: impl FnMut(Option<&Cursor>, u32) -> Result<Page<R>, ServiceError>,
    place: impl Fn(&R) -> String,
) -> Result<Page<R>, ServiceError> {
    let after = cursor(asked)?;
    if asked.sort.is_default() {
        return read(after.as_ref(), asked.limit);
    }
    let descending = asked.sort.descending;
    let is_behind = |place: &str| match &after {
        None => true,
        Some(Cursor(after)) => {
            if descending {
                place < after.as_str()
            } else {
                place > after.as_str()
            }
        }
    };
    let limit = asked.limit as usize;
    let mut found: Vec<(String, R)> = Vec::new();
    let mut from = None;
    loop {
        let page = read(from.as_ref(), BATCH)?;
        found.extend(page.items.into_iter().map(|row| (place(&row), row)).filter(|(p, _)| is_behind(p)));
        found.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
        found.truncate(limit.saturating_add(1));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let next = found.last().filter(|_| !is_last).map(|(place, _)| Cursor(place.clone()));
    Ok(marked(Page { items: found.into_iter().map(|(_, row)| row).collect(), next }, asked.sort))
}

/// The place of something by its names, the widest first. The comma comes before whatever a name may have, so that
/// all of `a` stands before `a-b`.
pub(crate) fn by_names(names: &[&str]) -> String {
    names.join(",")
}

/// The place of something by a moment, and by what tells it from others of the same moment. What has no moment comes
/// last in either direction.
pub(crate) fn by_moment(at: Option<Timestamp>, descending: bool, otherwise: &str) -> String {
    match at {
        // Before 1970 nothing was due.
        Some(at) => format!("{:016x},{otherwise}", at.as_microsecond().max(0)),
        None if descending => format!(",{otherwise}"),
        None => format!("never,{otherwise}"),
    }
}

#[cfg(test)]
mod tests {
    use ostler_api::SchedulesBy;

    use super::*;

    fn all(sort: &str, limit: u32, rows: &[(&str, Option<i64>)]) -> Vec<String> {
        let sort: Sort<SchedulesBy> = sort.parse().unwrap();
        let place = |(name, at): &(String, Option<i64>)| match sort.by {
            SchedulesBy::Next => {
                let at = at.map(|s| Timestamp::from_second(s).unwrap());
                by_moment(at, sort.descending, name)
            }
            _ => by_names(&[name]),
        };
        let read = |after: Option<&Cursor>, limit: u32| {
            let from = after.map_or(0, |c| c.0.parse().unwrap());
            let rest = rows.iter().skip(from).take(limit as usize).map(|(n, at)| ((*n).to_owned(), *at));
            let end = from + limit as usize;
            Ok(Page { items: rest.collect(), next: (end < rows.len()).then(|| Cursor(end.to_string())) })
        };
        let (mut names, mut asked) = (Vec::new(), PageRequest::first(limit).sorted(sort));
        loop {
            let page = sorted(&asked, read, place).unwrap();
            assert!(page.items.len() <= limit as usize);
            names.extend(page.items.into_iter().map(|(name, _)| name));
            match page.next {
                Some(Cursor(next)) => asked.after = Some(next),
                None => return names,
            }
        }
    }

    #[test]
    fn pages_of_any_size_put_a_list_in_any_order() {
        let rows = [("c", Some(9)), ("a", None), ("d", Some(9)), ("b", Some(1_900_000_000)), ("e", None)];
        for limit in 1..7 {
            assert_eq!(all("created", limit, &rows), ["c", "a", "d", "b", "e"]);
            assert_eq!(all("name", limit, &rows), ["a", "b", "c", "d", "e"]);
            assert_eq!(all("-name", limit, &rows), ["e", "d", "c", "b", "a"]);
            assert_eq!(all("next", limit, &rows), ["c", "d", "b", "a", "e"]);
            assert_eq!(all("-next", limit, &rows), ["b", "d", "c", "e", "a"]);
        }
    }

    #[test]
    fn a_cursor_counts_in_its_own_order_only() {
        let of = |after: &str, sort: &str| {
            let sort: Sort<SchedulesBy> = sort.parse().unwrap();
            cursor(&PageRequest { after: Some(after.into()), limit: 1, sort })
        };
        assert_eq!(of("x", "created"), Ok(Some(Cursor("x".into()))));
        assert_eq!(of("x~-next", "-next"), Ok(Some(Cursor("x".into()))));
        for (after, sort) in [("x", "-created"), ("x~-next", "next"), ("x~name", "created")] {
            assert!(matches!(of(after, sort), Err(ServiceError::OtherOrder { .. })), "{after} {sort}");
        }
        assert_eq!(
            of("x~name", "-next").unwrap_err().to_string(),
            "the cursor `x~name` was made in a list sorted by `name`, and this one is sorted by `-next`; \
             keep `sort` the same, or begin again without the cursor"
        );
    }

    #[test]
    fn all_of_a_name_stands_before_a_longer_name() {
        assert!(by_names(&["a", "z"]) < by_names(&["a-b", "a"]));
        assert!(by_names(&["a", "z"]) < by_names(&["a.b", "a"]));
    }
}
