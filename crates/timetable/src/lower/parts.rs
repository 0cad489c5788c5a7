//! Parts that stand at several levels: environment, activation, what is expected, calendars.

use std::collections::BTreeMap;

use ostler_calendar::Calendars;
use ostler_model::{
    Name, RunState,
    definition::{Activation, ActivationMode, Expect},
    trigger::CalendarDef,
};

use super::{Context, fields::Fields, retry::check_class};
use crate::{
    diagnostic::Problem,
    node::{Kind, Node},
};

/// `env`, `env_file` and `inherit_env` of one level, laid over those of the levels above.
#[derive(Clone, Default)]
pub(crate) struct Environment<'n> {
    /// Values with their places.
    pub(crate) env: BTreeMap<String, &'n Node>,
    pub(crate) files: Vec<String>,
    pub(crate) inherit: Vec<String>,
}

impl<'n> Environment<'n> {
    /// What a level adds.
    pub(crate) fn and(&self, cx: &Context<'_>, fields: &mut Fields<'n>) -> Self {
        let mut all = self.clone();
        if let Some(node) = fields.take(cx, &["env", "environment"]) {
            match &node.kind {
                Kind::Map(entries) => {
                    for (key, value) in entries {
                        if key.text.is_empty() || key.text.contains(['=', ' ']) {
                            let message = format!("`{}` is not the name of a variable", key.text);
                            cx.error(Problem::new("name", &key.span, message));
                        } else if value.scalar().is_none() {
                            cx.wrong_type(value, &format!("env.{}", key.text), "a text");
                        } else {
                            all.env.insert(key.text.clone(), value);
                        }
                    }
                }
                Kind::List(_) => cx.error(
                    Problem::new("wrong-type", &node.span, "`env` is a map, not a list")
                        .help("write `env: { NAME: value }`"),
                ),
                _ => cx.wrong_type(node, "env", "a map of names and values"),
            }
        }
        if let Some(node) = fields.take(cx, &["env_file", "dotenv"]) {
            for item in cx.items(node) {
                if let Some(path) = cx.text(item, "env_file")
                    && stays_inside(cx, item, "env_file", &path, true)
                {
                    all.files.push(path);
                }
            }
        }
        if let Some(node) = fields.take(cx, &["inherit_env"]) {
            match node.kind {
                Kind::Bool(true, _) => all.inherit.push("*".into()),
                Kind::Bool(false, _) => all.inherit.clear(),
                _ => all.inherit.extend(cx.texts(node, "inherit_env")),
            }
            let mut seen = std::collections::HashSet::new();
            all.inherit.retain(|name| seen.insert(name.clone()));
        }
        all
    }
}

/// A path of a definition stays inside of the folder of its file, so that the folder can be moved and copied.
pub(crate) fn stays_inside(cx: &Context<'_>, node: &Node, what: &str, path: &str, absolute: bool) -> bool {
    let is_absolute = path.starts_with(['/', '\\']) || path.as_bytes().get(1) == Some(&b':');
    let mut depth = 0i32;
    let mut leaves = false;
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        leaves |= depth < 0;
    }
    let message = match (is_absolute && !absolute, leaves) {
        (true, _) => format!("`{what}`: `{path}` is an absolute path"),
        (_, true) => format!("`{what}`: `{path}` leaves the folder of the file"),
        _ => return true,
    };
    cx.error(
        Problem::new("path", &node.span, message)
            .help("write it relative to the folder of the file, inside of it"),
    );
    false
}

/// `activation`, and its parts where they stand directly.
pub(crate) fn activation(cx: &Context<'_>, fields: &mut Fields<'_>, zone: &str) -> Activation {
    let read = |fields: &mut Fields<'_>, is_whole: bool| {
        let on = fields.take(cx, &["activate_on"]).and_then(|n| cx.moment(n, "activate_on", zone));
        let off = fields.take(cx, &["deactivate_on"]).and_then(|n| cx.moment(n, "deactivate_on", zone));
        let mut activation =
            Activation { activate_on: on, deactivate_on: off, mode: ActivationMode::ByDates };
        if is_whole && let Some(n) = fields.take(cx, &["mode"]) {
            let words = [
                ("by-dates", ActivationMode::ByDates),
                ("on", ActivationMode::On),
                ("off", ActivationMode::Off),
            ];
            activation.mode = cx.word(n, "activation.mode", &words).unwrap_or_default();
        }
        activation
    };
    let direct = read(fields, false);
    let Some(node) = fields.take(cx, &["activation"]) else { return direct };
    let Some(mut inner) = Fields::of(cx, node, "activation", "`activation`") else { return direct };
    let whole = read(&mut inner, true);
    inner.finish(cx);
    Activation {
        activate_on: direct.activate_on.or(whole.activate_on),
        deactivate_on: direct.deactivate_on.or(whole.deactivate_on),
        mode: whole.mode,
    }
}

/// `expect: failed`, or a map.
pub(crate) fn expect(cx: &Context<'_>, node: &Node) -> Expect {
    let final_states: Vec<(&str, RunState)> =
        RunState::ALL.into_iter().filter(|s| s.is_final()).map(|s| (s.word(), s)).collect();
    let state = |node: &Node| {
        // What is expected anyway is not worth a word.
        cx.word(node, "expect", &final_states).filter(|s| *s != RunState::Succeeded)
    };
    if !matches!(node.kind, Kind::Map(_)) {
        return Expect { state: state(node), error: None };
    }
    let Some(mut fields) = Fields::of(cx, node, "expect", "`expect`") else { return Expect::default() };
    let mut expect = Expect { state: fields.take(cx, &["state"]).and_then(state), error: None };
    if let Some(n) = fields.take(cx, &["error"]) {
        expect.error = cx.text(n, "expect.error");
        if let Some(class) = &expect.error {
            check_class(cx, n, "expect.error", class);
        }
        expect.state = expect.state.or(Some(RunState::Failed));
    }
    fields.finish(cx);
    expect
}

/// A calendar with one kind of entries only.
type Only = fn(Vec<String>) -> CalendarDef;

/// The named calendars of a file.
pub(crate) fn calendars(cx: &Context<'_>, node: &Node) -> BTreeMap<Name, CalendarDef> {
    let mut calendars = BTreeMap::new();
    let Some(mut fields) = Fields::of(cx, node, "calendars", "`calendars`") else { return calendars };
    for (key, node) in fields.rest() {
        let (Some(name), Some(mut fields)) =
            (cx.name_of(&key.text, &key.span, "calendars"), Fields::of(cx, node, &key.text, "a calendar"))
        else {
            continue;
        };
        let description = fields.take(cx, &["description"]).and_then(|n| cx.text(n, "description"));
        let mut texts =
            |names: &[&'static str]| fields.take(cx, names).map(|n| (cx.texts(n, names[0]), cx.items(n)));
        let (dates, weekdays, periods, rules) =
            (texts(&["dates"]), texts(&["weekdays"]), texts(&["periods"]), texts(&["rules", "rrules"]));
        fields.finish(cx);
        // Each entry by itself, so that each tells its own error.
        let kinds: [(&_, Only); 4] = [
            (&dates, |dates| CalendarDef { dates, ..CalendarDef::default() }),
            (&weekdays, |weekdays| CalendarDef { weekdays, ..CalendarDef::default() }),
            (&periods, |periods| CalendarDef { periods, ..CalendarDef::default() }),
            (&rules, |rules| CalendarDef { rules, ..CalendarDef::default() }),
        ];
        for (entries, calendar_of) in kinds {
            for node in entries.iter().flat_map(|(_, nodes)| nodes) {
                let Some(text) = node.scalar() else { continue };
                let only = BTreeMap::from([(name.clone(), calendar_of(vec![text.to_owned()]))]);
                if let Err(error) = Calendars::compile(&only) {
                    cx.error(Problem::new("calendar", &node.span, error.to_string()));
                }
            }
        }
        let texts =
            |entries: Option<(Vec<String>, Vec<&Node>)>| entries.map(|(texts, _)| texts).unwrap_or_default();
        let calendar = CalendarDef {
            description,
            dates: texts(dates),
            weekdays: texts(weekdays),
            periods: texts(periods),
            rules: texts(rules),
        };
        calendars.insert(name, calendar);
    }
    fields.finish(cx);
    calendars
}
