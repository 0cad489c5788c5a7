//! What a node remembers between its claims.

use ostler_store::{Micros, Turns as Shares};

/// How soon a node looks again at a limit that another one had in hand.
const COME_BACK: Micros = 5_000;

/// Whose turn it is, where the last claim left off, and when to look again.
#[derive(Default)]
pub(crate) struct Turns {
    /// What each namespace has been given.
    pub(crate) shares: Shares,
    /// Where the last claim left off when there were more lanes than it weighs.
    pub(crate) after: i64,
    /// When the rates of lanes were last looked at: of own lanes, of shared ones.
    pub(crate) looked: [Micros; 2],
    /// When to look again at what another node had in hand.
    pub(crate) come_back: Option<Micros>,
}

impl Turns {
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
