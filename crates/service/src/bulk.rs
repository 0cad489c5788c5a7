//! Many at once: what is done to all runs that a filter fits, page by page.

use ostler_api::{BulkFilter, CancelReport, PageRequest, RerunRequest, RetryReport, RunQuery, RunView};
use ostler_model::{RunState, Uid};

use crate::{Actor, Service, ServiceError};

/// Runs looked at in one page.
const PAGE: u32 = 1000;

impl Service {
    /// Asks runs to end: those named, or the living ones that fit.
    ///
    /// # Errors
    /// One of those named is not there, or neither ids nor a query are given; nothing is asked then.
    pub fn cancel_many(&self, actor: &Actor, which: &BulkFilter) -> Result<CancelReport, ServiceError> {
        let mut report = CancelReport::default();
        let mut ask = |ids: &[Uid]| -> Result<(), ServiceError> {
            if which.dry_run {
                report.asked += ids.len() as u64;
                return Ok(());
            }
            for alive in self.cancel(actor, ids, &which.reason)? {
                if alive { report.asked += 1 } else { report.ended_already += 1 }
            }
            Ok(())
        };
        match self.chosen(which)? {
            Chosen::Ids(ids) => ask(ids)?,
            Chosen::Query(mut query) => {
                if let Some(state) = query.states.iter().find(|s| s.is_final()) {
                    return Err(ServiceError::BadInput(format!(
                        "runs that are {state} have ended and cannot be cancelled"
                    )));
                }
                if query.states.is_empty() {
                    query.states =
                        vec![RunState::Scheduled, RunState::Ready, RunState::Running, RunState::Waiting];
                }
                self.each_page(actor, &query, |page| ask(&ids_of(&page)))?;
            }
        }
        Ok(report)
    }

    /// Runs again what ended runs did: those named, or the ended ones that fit. Those that live and parts of flows are
    /// passed over.
    ///
    /// # Errors
    /// One of those named is not there, or neither ids nor a query are given.
    pub fn rerun_many(
        &self,
        actor: &Actor,
        which: &BulkFilter,
        how: &RerunRequest,
    ) -> Result<RetryReport, ServiceError> {
        let mut runs: Vec<RunView> = Vec::new();
        match self.chosen(which)? {
            Chosen::Ids(ids) => {
                for id in ids {
                    runs.push(self.run(actor, *id)?);
                }
            }
            // All are found before the first is started: what is started could fit as well.
            Chosen::Query(query) => self.each_page(actor, &query, |page| {
                runs.extend(page);
                Ok(())
            })?,
        }
        let all = runs.len() as u64;
        runs.retain(|run| run.state.is_final() && run.parent.is_none());
        let mut report = RetryReport { started: Vec::new(), passed_over: all - runs.len() as u64 };
        // Oldest first, so that the new ones stand in the order of the old.
        for run in runs.iter().rev().filter(|_| !which.dry_run) {
            report.started.push(self.rerun(actor, run.id, how)?);
        }
        Ok(report)
    }

    fn chosen<'a>(&self, which: &'a BulkFilter) -> Result<Chosen<'a>, ServiceError> {
        match (which.ids.as_slice(), &which.query) {
            ([], Some(query)) => Ok(Chosen::Query(query.clone())),
            ([], None) => Err(ServiceError::BadInput(
                "say which runs are meant: `ids`, or `query` (`{}` stands for all)".to_owned(),
            )),
            (ids, None) => Ok(Chosen::Ids(ids)),
            (_, Some(_)) => Err(ServiceError::BadInput("`ids` and `query` exclude each other".to_owned())),
        }
    }

    fn each_page(
        &self,
        actor: &Actor,
        query: &RunQuery,
        mut each: impl FnMut(Vec<RunView>) -> Result<(), ServiceError>,
    ) -> Result<(), ServiceError> {
        let mut asked = PageRequest::first(PAGE);
        loop {
            let page = self.runs(actor, query, &asked)?;
            each(page.items)?;
            asked.after = page.next;
            if asked.after.is_none() {
                return Ok(());
            }
        }
    }
}

enum Chosen<'a> {
    Ids(&'a [Uid]),
    Query(RunQuery),
}

fn ids_of(runs: &[RunView]) -> Vec<Uid> {
    runs.iter().map(|run| run.id).collect()
}
