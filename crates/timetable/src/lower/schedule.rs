//! `on` and `on.schedule`: triggers and what happens to late and overlapping firings.

use std::collections::{BTreeMap, BTreeSet};

use ostler_calendar::{CalendarError, Calendars, Trigger, check_cron, differs_between_dialects};
use ostler_model::{
    Name, Span, TriggerSpec,
    definition::{Missed, MissedPolicy, Overlap, ScheduleDef, TriggerDef},
    trigger::{CalendarDef, Dialect, Dst, Fold, Gap, Interval, Pace, Rhythm},
};
use serde_json::{Map, Value};

use super::{Context, expressions::Names, fields::Fields, parts, policy, schemas, trigger};
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// What the schedules of a task are read with.
pub(crate) struct Terms<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) zone: &'a str,
    pub(crate) calendars: &'a BTreeMap<Name, CalendarDef>,
    pub(crate) inputs: Option<&'a Value>,
    pub(crate) task: &'a Name,
}

/// A schedule or trigger that still has to be held against the presets of the file.
pub(crate) struct Pending<'n> {
    pub(crate) starter: Name,
    pub(crate) span: std::ops::Range<usize>,
    pub(crate) preset: Option<(Name, &'n Node)>,
}

/// A trigger without a rhythm of its own, to check a zone by.
pub(crate) fn once(zone: &str) -> TriggerSpec {
    spec(Rhythm::Once, Some(zone.to_owned()))
}

fn spec(rhythm: Rhythm, timezone: Option<String>) -> TriggerSpec {
    TriggerSpec {
        rhythm,
        timezone,
        dst: Dst::default(),
        jitter: None,
        offset: None,
        only: Vec::new(),
        except: Vec::new(),
        start: None,
        end: None,
        count: None,
    }
}

/// What `on` says.
#[derive(Default)]
pub(crate) struct Starters<'n> {
    pub(crate) schedules: Vec<ScheduleDef>,
    pub(crate) triggers: Vec<TriggerDef>,
    pub(crate) pending: Vec<Pending<'n>>,
}

/// `on`: schedules and triggers.
pub(crate) fn on<'n>(cx: &Context<'_>, node: &'n Node, terms: &Terms<'_>) -> Starters<'n> {
    let mut found = Starters::default();
    if let Kind::Text(text) = &node.kind {
        let problem = Problem::new("wrong-type", &node.span, format!("`on` is a map, not the text `{text}`"));
        cx.error(problem.help("write `on: { schedule: [{ cron: \"0 7 * * *\" }] }`"));
        return found;
    }
    let Some(mut fields) = Fields::of(cx, node, "on", "`on`") else { return found };
    let mut entries: Vec<&Node> = Vec::new();
    if let Some(node) = fields.take(cx, &["schedule"]) {
        entries = cx.items(node);
    }
    let start = fields.take(cx, &["start", "reboot"]).filter(|n| cx.flag(n, "start") == Some(true));
    let triggers: Vec<_> = trigger::WORDS
        .into_iter()
        .filter_map(|word| fields.take(cx, &[word]).map(|node| trigger::triggers(cx, word, node, terms)))
        .flatten()
        .collect();
    fields.finish(cx);
    let mut add = |read: Option<(ScheduleDef, Pending<'n>)>| {
        let Some((schedule, later)) = read else { return };
        found.schedules.push(schedule);
        found.pending.push(later);
    };
    let count = entries.len();
    for (i, entry) in entries.into_iter().enumerate() {
        add(schedule(cx, entry, i, terms));
    }
    if let Some(node) = start {
        let id = Name::from_any(&format!("s{}", count + 1));
        let later = Pending { starter: id.clone(), span: node.span.clone(), preset: None };
        add(Some((plain(id, spec(Rhythm::Reboot, None)), later)));
    }
    for (trigger, later) in triggers {
        found.triggers.push(trigger);
        found.pending.push(later);
    }
    let mut seen = BTreeSet::new();
    for later in found.pending.iter().filter(|p| !seen.insert(p.starter.clone())) {
        let message = format!("two schedules or triggers of the task have the id `{}`", later.starter);
        cx.error(Problem::new("duplicate-id", &later.span, message).help("give them different ids"));
    }
    found
}

fn plain(id: Name, trigger: TriggerSpec) -> ScheduleDef {
    ScheduleDef {
        id,
        trigger,
        preset: None,
        inputs: Map::new(),
        missed: Missed::default(),
        overlap: Overlap::default(),
        policy: ostler_model::definition::Policy::default(),
        enabled: true,
        activation: ostler_model::definition::Activation::default(),
    }
}

fn schedule<'n>(
    cx: &Context<'_>,
    node: &'n Node,
    index: usize,
    terms: &Terms<'_>,
) -> Option<(ScheduleDef, Pending<'n>)> {
    let default_id = || Name::from_any(&format!("s{}", index + 1));
    // A bare text is a cron expression.
    if let Kind::Text(_) = &node.kind {
        let trigger = spec(cron(cx, node, terms.dialect)?, None);
        let later = Pending { starter: default_id(), span: node.span.clone(), preset: None };
        check(cx, &trigger, terms, &Places { rhythm: node, timezone: None, calendars: vec![] });
        return Some((plain(default_id(), trigger), later));
    }
    let mut fields = Fields::of(cx, node, "schedule", "a schedule")?;
    let id = match fields.take(cx, &["id"]) {
        Some(n) => cx.name(n, "id").unwrap_or_else(default_id),
        None => default_id(),
    };
    let timezone_node = fields.take(cx, &["timezone", "time_zone", "tz"]);
    let timezone = timezone_node.and_then(|n| cx.zone(n, "timezone"));
    let zone = timezone.clone().unwrap_or_else(|| terms.zone.to_owned());
    let rhythm = rhythm(cx, &mut fields, terms.dialect);
    let calendar_nodes: Vec<&Node> =
        ["only", "except"].iter().filter_map(|k| node.get(k)).flat_map(|n| cx.items(n)).collect();
    let mut names = |key: &'static str| -> Vec<Name> {
        fields
            .take(cx, &[key])
            .map(|n| cx.names(n, key).into_iter().map(|(name, _)| name).collect())
            .unwrap_or_default()
    };
    let (only, except) = (names("only"), names("except"));
    let dst = fields.take(cx, &["dst"]).map(|n| dst(cx, n)).unwrap_or_default();
    let jitter = fields.take(cx, &["jitter"]).and_then(|n| cx.span(n, "jitter")).filter(|s| !s.is_zero());
    let offset = fields.take(cx, &["offset"]).and_then(|n| cx.span(n, "offset")).filter(|s| !s.is_zero());
    let start = fields.take(cx, &["start"]).and_then(|n| cx.moment(n, "start", &zone));
    let end = fields.take(cx, &["end"]).and_then(|n| cx.moment(n, "end", &zone));
    let count = fields.take(cx, &["count"]).and_then(|n| cx.count(n, "count", 1, u64::MAX));
    let missed = fields.take(cx, &["missed"]).map(|n| missed(cx, n)).unwrap_or_default();
    let overlap = fields.take(cx, &["overlap"]).and_then(|n| {
        let words = [
            ("allow", Overlap::Allow),
            ("queue", Overlap::Queue),
            ("skip", Overlap::Skip),
            ("cancel-running", Overlap::CancelRunning),
        ];
        cx.word(n, "overlap", &words)
    });
    let preset = fields.take(cx, &["preset"]).and_then(|n| Some((cx.name(n, "preset")?, n)));
    let inputs = match fields.take(cx, &["inputs"]) {
        None => Map::new(),
        Some(n) => match n.to_json() {
            Value::Object(map) => {
                schemas::check_inputs(cx, n, terms.inputs, &format!("task `{}`", terms.task));
                map
            }
            _ => {
                cx.wrong_type(n, "inputs", "a map of names and values");
                Map::new()
            }
        },
    };
    let names = Names { inputs: terms.inputs, ..Names::default() };
    let policy = policy::take(cx, &mut fields, &names);
    let enabled = fields.take(cx, &["enabled"]).and_then(|n| cx.flag(n, "enabled")).unwrap_or(true);
    let activation = parts::activation(cx, &mut fields, &zone);
    let span = fields.span.clone();
    fields.finish(cx);
    let (rhythm, rhythm_node) = rhythm?;
    let trigger = TriggerSpec { rhythm, timezone, dst, jitter, offset, only, except, start, end, count };
    check(
        cx,
        &trigger,
        terms,
        &Places { rhythm: rhythm_node, timezone: timezone_node, calendars: calendar_nodes },
    );
    let later = Pending { starter: id.clone(), span, preset: preset.clone() };
    let schedule = ScheduleDef {
        id,
        trigger,
        preset: preset.map(|(name, _)| name),
        inputs,
        missed,
        overlap: overlap.unwrap_or_default(),
        policy,
        enabled,
        activation,
    };
    Some((schedule, later))
}

/// The keys of which a schedule has exactly one.
const RHYTHMS: [&str; 7] = ["cron", "every", "at", "rrule", "calendar", "once", "reboot"];

/// The rhythm of a schedule and the node that says it.
fn rhythm<'n>(cx: &Context<'_>, fields: &mut Fields<'n>, dialect: Dialect) -> Option<(Rhythm, &'n Node)> {
    let given: Vec<&str> = RHYTHMS.into_iter().filter(|key| fields.has(key)).collect();
    let dialect = match fields.take(cx, &["dialect"]) {
        Some(n) => cx
            .word(n, "dialect", &[("vixie", Dialect::Vixie), ("supertask", Dialect::Supertask)])
            .unwrap_or(dialect),
        None => dialect,
    };
    let pace = pace(cx, fields);
    let mut found = None;
    for key in RHYTHMS {
        let Some(node) = fields.take(cx, &[key]) else { continue };
        let read = match key {
            "cron" => cron(cx, node, dialect),
            "every" => {
                interval(cx, node).map(|interval| Rhythm::Every { interval, pace: pace.unwrap_or_default() })
            }
            "at" => {
                let texts = cx.texts(node, "at");
                if texts.is_empty() && matches!(node.kind, Kind::List(_)) {
                    cx.error(
                        Problem::new("wrong-value", &node.span, "`at` has no moments")
                            .help("write `at: [2027-03-01T09:00]`"),
                    );
                }
                (!texts.is_empty()).then_some(Rhythm::At(texts))
            }
            "rrule" => cx.text(node, key).map(Rhythm::Rrule),
            "calendar" => cx.text(node, key).map(Rhythm::Calendar),
            _ => match cx.flag(node, key) {
                Some(true) if key == "once" => Some(Rhythm::Once),
                Some(true) => Some(Rhythm::Reboot),
                Some(false) => {
                    cx.error(
                        Problem::new("wrong-value", &node.span, format!("`{key}: false` says nothing"))
                            .help("leave it out"),
                    );
                    None
                }
                None => None,
            },
        };
        found = found.or(read.map(|r| (r, node)));
    }
    match given.as_slice() {
        [] => {
            let message = "the schedule does not say when";
            cx.error(
                Problem::new("missing-key", &fields.span, message)
                    .help("write one of `cron: \"0 7 * * *\"`, `every: 5m`, `at: […]`, `rrule`, `calendar`, `once: true`, `reboot: true`"),
            );
        }
        [_] => {}
        several => {
            let message = format!("the schedule says {} ways when: {}", several.len(), several.join(", "));
            cx.error(
                Problem::new("wrong-value", &fields.span, message).help("make it one schedule for each"),
            );
        }
    }
    if let (Some(_), Some((other, node))) = (pace, found.as_ref())
        && !matches!(other, Rhythm::Every { .. })
    {
        cx.error(
            Problem::new("wrong-value", &node.span, "`pace` goes with `every` only").help("leave it out"),
        );
    }
    found
}

fn pace(cx: &Context<'_>, fields: &mut Fields<'_>) -> Option<Pace> {
    let pace = fields
        .take(cx, &["pace"])
        .and_then(|n| cx.word(n, "pace", &[("precise", Pace::Precise), ("spaced", Pace::Spaced)]));
    let precise = fields
        .take(cx, &["precise"])
        .and_then(|n| cx.flag(n, "precise"))
        .map(|precise| if precise { Pace::Precise } else { Pace::Spaced });
    pace.or(precise)
}

fn cron(cx: &Context<'_>, node: &Node, dialect: Dialect) -> Option<Rhythm> {
    let expression = cx.text(node, "cron")?;
    if expression.trim().eq_ignore_ascii_case("@reboot") {
        return Some(Rhythm::Reboot);
    }
    match check_cron(&expression, dialect) {
        Ok(_) => {
            if dialect == Dialect::Supertask && differs_between_dialects(&expression) {
                let message = format!(
                    "cron `{expression}` is read as supertask reads it: 0 is Monday, and a day beside a weekday means both"
                );
                let help = "crontab(5) reads it otherwise; names such as `mon` mean the same in both";
                cx.note(Problem::new("dialect", &node.span, message).help(help));
            }
            Some(Rhythm::Cron { expression, dialect })
        }
        Err(error) => {
            let span = cx.part(node, &error.range());
            cx.error(Problem::new("cron", &span, format!("cron `{expression}`: {error}")));
            None
        }
    }
}

/// `250ms`, `1h30m`; or months and years, which follow the local calendar.
fn interval(cx: &Context<'_>, node: &Node) -> Option<Interval> {
    if let Some(months) = node.as_text().and_then(months) {
        if months == 0 {
            cx.error(Problem::new("duration", &node.span, "`every` is longer than nothing"));
            return None;
        }
        return Some(Interval::Months(months));
    }
    let span: Span = cx.positive_span(node, "every")?;
    Some(Interval::Elapsed(span))
}

/// Whole months of a text made of months and years only.
fn months(text: &str) -> Option<u32> {
    let mut total = 0u32;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| *n > 0)?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let scale = match &after[..letters] {
            "mo" | "month" | "months" => 1,
            "y" | "yr" | "year" | "years" => 12,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u32>().ok()?.checked_mul(scale)?)?;
        rest = after[letters..].trim_start().trim_start_matches(',').trim_start();
    }
    (!text.trim().is_empty()).then_some(total)
}

fn dst(cx: &Context<'_>, node: &Node) -> Dst {
    let mut dst = Dst::default();
    let Some(mut fields) = Fields::of(cx, node, "dst", "`dst`") else { return dst };
    if let Some(n) = fields.take(cx, &["gap"]) {
        dst.gap = cx.word(n, "dst.gap", &[("shift", Gap::Shift), ("skip", Gap::Skip)]).unwrap_or_default();
    }
    if let Some(n) = fields.take(cx, &["fold"]) {
        let words = [("first", Fold::First), ("last", Fold::Last), ("both", Fold::Both)];
        dst.fold = cx.word(n, "dst.fold", &words).unwrap_or_default();
    }
    fields.finish(cx);
    dst
}

fn missed(cx: &Context<'_>, node: &Node) -> Missed {
    let words = [
        ("skip", MissedPolicy::Skip),
        ("none", MissedPolicy::Skip),
        ("latest", MissedPolicy::Latest),
        ("last", MissedPolicy::Latest),
        ("all", MissedPolicy::All),
    ];
    if !matches!(node.kind, Kind::Map(_)) {
        return Missed { policy: cx.word(node, "missed", &words).unwrap_or_default(), within: None };
    }
    let Some(mut fields) = Fields::of(cx, node, "missed", "`missed`") else { return Missed::default() };
    let policy =
        fields.take(cx, &["policy"]).and_then(|n| cx.word(n, "missed.policy", &words)).unwrap_or_default();
    let within = fields.take(cx, &["within"]).and_then(|n| cx.positive_span(n, "missed.within"));
    fields.finish(cx);
    Missed { policy, within }
}

struct Places<'n> {
    rhythm: &'n Node,
    timezone: Option<&'n Node>,
    calendars: Vec<&'n Node>,
}

/// Compiles the trigger, as the engine will.
fn check(cx: &Context<'_>, trigger: &TriggerSpec, terms: &Terms<'_>, places: &Places<'_>) {
    let mut unknown = false;
    for name in trigger.only.iter().chain(&trigger.except) {
        if !terms.calendars.contains_key(name) {
            unknown = true;
            let place = places.calendars.iter().find(|n| n.scalar() == Some(name.as_str()));
            let span = place.map_or(places.rhythm.span.clone(), |n| n.span.clone());
            let known = terms.calendars.keys().map(Name::as_str);
            let problem = Problem::new("calendar", &span, format!("there is no calendar `{name}`"));
            cx.error(problem.help(suggest(
                name.as_str(),
                known,
                "declare it: `calendars: { NAME: { dates: […] } }`",
            )));
        }
    }
    let used: BTreeMap<Name, CalendarDef> = terms
        .calendars
        .iter()
        .filter(|(name, _)| trigger.only.contains(name) || trigger.except.contains(name))
        .map(|(name, def)| (name.clone(), def.clone()))
        .collect();
    // Wrong calendars are told where they stand.
    let Ok(calendars) = Calendars::compile(&used) else { return };
    if unknown {
        return;
    }
    let Err(error) = Trigger::compile(trigger, terms.zone, &calendars, 0) else { return };
    let (code, span) = match &error {
        CalendarError::Cron { error, .. } => ("cron", cx.part(places.rhythm, &error.range())),
        CalendarError::UnknownZone { .. } => {
            ("timezone", places.timezone.unwrap_or(places.rhythm).span.clone())
        }
        CalendarError::Moment { text, .. } => {
            let item = cx.items(places.rhythm).into_iter().find(|n| n.scalar() == Some(text));
            ("moment", item.unwrap_or(places.rhythm).span.clone())
        }
        CalendarError::Rrule { part, .. } => {
            let at = places.rhythm.as_text().and_then(|t| t.find(part.as_str()));
            (
                "rrule",
                at.map_or(places.rhythm.span.clone(), |at| cx.part(places.rhythm, &(at..at + part.len()))),
            )
        }
        CalendarError::Systemd { .. } => ("calendar", places.rhythm.span.clone()),
        _ => ("trigger", places.rhythm.span.clone()),
    };
    // An unknown zone of the schedule's own has been told.
    if !(code == "timezone" && places.timezone.is_none()) {
        cx.error(Problem::new(code, &span, error.to_string()));
    }
}
