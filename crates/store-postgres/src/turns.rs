//! What a node remembers between its claims, and what nodes tell one another of what they have spent.

use std::collections::HashMap;

use ostler_store::{Micros, NEVER, Place};

use crate::{
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// How soon a node looks again at what another one had in hand.
pub(crate) const COME_BACK: Micros = 5_000;

/// How often a node tells others what it has spent.
const TELL_EVERY: Micros = 1_000_000;

/// What another node has in hand is told the next time.
const TELL: &str = "WITH free AS MATERIALIZED (
    SELECT id FROM namespace WHERE id=ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED)
  UPDATE namespace n SET spent=n.spent+u.spent FROM unnest($1, $2) u(id, spent)
  WHERE n.id=u.id AND n.id=ANY(ARRAY(SELECT id FROM free)) RETURNING n.id, u.spent";

const HEAR: &str = "SELECT id, spent FROM namespace WHERE id=ANY($1)";

/// Lanes of one sort: of light machines, or of those that take a slot.
pub(crate) struct Sort {
    /// What each namespace has had.
    pub(crate) shares: ostler_store::Turns,
    /// Where the last claim left off.
    pub(crate) after: Place,
}

impl Sort {
    fn new(light: bool) -> Self {
        Self { shares: ostler_store::Turns::default(), after: Place::first(light) }
    }
}

/// Whose turn it is, where the last claim left off, and when to look again.
pub(crate) struct Turns {
    /// Of what takes a slot, and of what is light.
    sorts: [Sort; 2],
    /// When lanes were last looked at: own ones, shared ones.
    pub(crate) looked: [Micros; 2],
    /// When to look again at what another node had in hand.
    pub(crate) come_back: Option<Micros>,
    /// When others were last told and heard of.
    told: Micros,
    /// What all nodes had spent on each namespace then.
    known: HashMap<i64, Micros>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            sorts: [Sort::new(false), Sort::new(true)],
            // Who never looks at shared lanes waits for no moment of theirs.
            looked: [0, NEVER],
            come_back: None,
            told: 0,
            known: HashMap::new(),
        }
    }
}

impl Turns {
    pub(crate) fn of(&mut self, light: bool) -> &mut Sort {
        &mut self.sorts[usize::from(light)]
    }

    /// A claim looks at the lanes of its node, and at shared ones.
    pub(crate) fn look(&mut self, now: Micros, shared: bool) {
        self.looked[0] = now;
        if shared {
            self.looked[1] = now;
        }
        self.come_back = None;
    }

    /// Something could not be looked at.
    pub(crate) fn come_back(&mut self, now: Micros) {
        self.come_back = Some(now + COME_BACK);
    }
}

impl Tx<'_> {
    /// Tells other nodes what this one has spent on namespaces, and hears what they have, once a second. Otherwise a
    /// namespace whose rows only one node may take would get half of that node, and another one the other half and all
    /// other nodes.
    pub(crate) fn tell_and_hear(&mut self) -> Done<()> {
        if self.now.saturating_sub(self.turns.told) < TELL_EVERY {
            return Ok(());
        }
        self.turns.told = self.now;
        let (ids, spent): (Vec<i64>, Vec<i64>) = self.turns.of(false).shares.untold().into_iter().unzip();
        let mut own: HashMap<i64, Micros> = HashMap::new();
        if !ids.is_empty() {
            for row in self.written(TELL, values![ids, spent])? {
                own.insert(row.int(0)?, row.int(1)?);
            }
        }
        let shares = &mut self.turns.of(false).shares;
        own.iter().for_each(|(namespace, spent)| shares.told(*namespace, *spent));
        let namespaces: Vec<i64> = shares.namespaces().collect();
        if namespaces.is_empty() {
            return Ok(());
        }
        let mut heard = Vec::new();
        for row in self.rows(HEAR, values![namespaces])? {
            let (namespace, all) = (row.int(0)?, row.int(1)?);
            if let Some(before) = self.turns.known.insert(namespace, all) {
                heard.push((namespace, all - before - own.get(&namespace).copied().unwrap_or(0)));
            }
        }
        self.turns.of(false).shares.hear(heard);
        Ok(())
    }
}
