//! One plan as a durable run: declare, isolate, steps, checks, clean up.
//!
//! A drill runs dark: [`DrillContext`] holds what the DR site gave, and no handle to the primary. Every number of its
//! report comes from the run's journal; this room only performs the steps and records what each of them saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use lifeboat_verify::events::{Declared, Isolated, Restored, StepOutput};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::plan::{self, Order, StepState};
use super::points::points_at;
use super::steps::{self, FromRepository, Restorer, StepContext};
use super::surroundings::Surroundings;
use super::{checks, cleanup, databases, measure};
use crate::engine::Run;
use crate::engine::existing::PointReaders;
use crate::ground::failure::OrFail;
use crate::ground::{Clock, Failure, Progress, Result, Secret, durable_file};
use crate::policy::{Check, Plan, Policy, Primary, StepAction};
use crate::repository::Repository;
use crate::site::records::PointRecord;

/// What a drill is given: only what the DR site holds, and the existing repositories that the policy there names.
pub struct DrillContext {
    /// Opened.
    pub repository: Repository,
    /// All points of the system.
    pub points: Vec<PointRecord>,
    /// The one in force at the DR site.
    pub policy: Policy,
    /// Content of the recovery scripts by file name, from the DR site.
    pub scripts: BTreeMap<String, Vec<u8>>,
    /// A fresh directory for this drill, below the state directory; the same one when the drill is continued.
    pub target: PathBuf,
    /// What hides the primary from this process, made before its threads started.
    pub isolation: Isolated,
    pub clock: Arc<dyn Clock>,
    pub progress: Arc<dyn Progress>,
    /// Gap-free number of the drill within the system, from 1.
    pub drill_number: u64,
    /// "Had it happened then".
    pub at: Option<Timestamp>,
    pub plan_name: String,
    pub trigger: String,
    pub identity: String,
    pub host: String,
    /// Values that must not appear in the evidence.
    pub secrets: Vec<Secret>,
}

/// Carries a drill out, or continues one whose process died, to its end whatever its verdict.
///
/// # Errors
/// Wrong input when the plan cannot be run at all (nothing was started); failed when the journal or the clean-up
/// could not be written.
pub async fn drill(run: &Run, context: DrillContext) -> Result<()> {
    let readers = PointReaders::new(context.repository.clone(), &context.policy);
    let restorer = FromRepository::new(readers, Arc::clone(&context.progress));
    orchestrate(run.clone(), Arc::new(context), Arc::new(restorer)).await
}

/// Where steps are journalled: the engine's [`Run`], or a list in memory for tests.
trait Journal: Clone + Send + Sync + 'static {
    fn run_id(&self) -> String;

    /// As [`Run::step`].
    fn step<T, F>(&self, name: &str, effect: F) -> impl Future<Output = Result<T>> + Send
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static;
}

impl Journal for Run {
    fn run_id(&self) -> String {
        self.id().to_owned()
    }

    async fn step<T, F>(&self, name: &str, effect: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Run::step(self, name, move || effect).await
    }
}

/// A plan with the names that its steps and checks have in the journal.
struct Named {
    plan: Plan,
    order: Order,
    steps: Vec<String>,
    checks: Vec<String>,
}

impl Named {
    fn new(context: &DrillContext) -> Result<Self> {
        let plan = context.policy.plan_to_run(&context.plan_name).ok_or_else(|| no_plan(context))?;
        let order = plan::order(&plan)?;
        let steps = unique("step", plan.steps.iter().map(|step| step.name.as_str()));
        let checks = unique("check", plan.checks.iter().map(|check| check.name.as_str()));
        Ok(Self { plan, order, steps, checks })
    }
}

fn no_plan(context: &DrillContext) -> Failure {
    let known: Vec<&str> = context.policy.plans.keys().map(String::as_str).collect();
    let known = if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) };
    let (plan, system) = (&context.plan_name, &context.policy.system);
    Failure::wrong_input(format!("the policy of {system} has no plan `{plan}`; {known}"))
}

/// `KIND: NAME`, with ` (2)` and so on where a name comes again: names are unique within a run.
fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut fresh = |name: &str| {
        let numbered =
            |number: u32| if number == 1 { format!("{kind}: {name}") } else { format!("{kind}: {name} ({number})") };
        let free = (1..).map(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.insert(free.clone());
        free
    };
    names.map(&mut fresh).collect()
}

async fn orchestrate<J: Journal>(journal: J, context: Arc<DrillContext>, restorer: Arc<dyn Restorer>) -> Result<()> {
    let named = Named::new(&context)?;
    let declared = declare(&journal, &context, &named).await?;
    let surroundings = Arc::new(Surroundings::new(journal.run_id(), &context, declared.t0));
    let work = Work { journal, named, context, surroundings, measured: Mutex::default() };
    let work = Arc::new(work);
    let restored = carry_out(&work, restorer).await;
    // Whatever happened, nothing of the drill may stay.
    let cleaned = clean_up(&work, restored.clone().unwrap_or_default()).await;
    restored.and(cleaned)
}

async fn declare<J: Journal>(journal: &J, context: &Arc<DrillContext>, named: &Named) -> Result<Declared> {
    let (steps, checks) = (named.steps.clone(), named.checks.clone());
    let shared = Arc::clone(context);
    let declared = async move { Ok(StepOutput::Declared(declaration(&shared, steps, checks))) };
    match journal.step("declare", declared).await? {
        StepOutput::Declared(declared) => Ok(declared),
        _ => Err(foreign("declare")),
    }
}

fn foreign(step: &str) -> Failure {
    Failure::failed(format!("the journal holds something else than expected for the step `{step}`"))
}

fn declaration(context: &DrillContext, steps: Vec<String>, checks: Vec<String>) -> Declared {
    let t0 = context.clock.now();
    let policy = &context.policy;
    Declared {
        t0,
        system: policy.system.clone(),
        drill: context.drill_number,
        plan: context.plan_name.clone(),
        policy: policy.hash(),
        at: context.at.unwrap_or(t0),
        rpo_objective_seconds: policy.objectives.rpo.map(|rpo| rpo.as_secs_f64()),
        rto_objective_seconds: policy.objectives.rto.map(|rto| rto.as_secs_f64()),
        steps,
        checks,
        sources: policy.sources.iter().map(|source| source.name.clone()).collect(),
        host: context.host.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        trigger: context.trigger.clone(),
        identity: context.identity.clone(),
        provider: match policy.primary {
            Primary::Local => "local".into(),
            Primary::Aws { .. } => "aws".into(),
        },
    }
}

/// What the parts of a drill under way share.
struct Work<J> {
    journal: J,
    named: Named,
    context: Arc<DrillContext>,
    surroundings: Arc<Surroundings>,
    /// Sources whose newest data was measured, or is being measured.
    measured: Mutex<BTreeSet<String>>,
}

/// Everything between the declaration and the clean-up. Returns the directories that restores were given; a step that
/// failed is in the journal and no error here.
async fn carry_out<J: Journal>(work: &Arc<Work<J>>, restorer: Arc<dyn Restorer>) -> Result<Vec<PathBuf>> {
    isolate(work).await?;
    let target = work.context.target.clone();
    if work.journal.step("prepare target", async move { prepare(&target) }).await.is_err() {
        return Ok(Vec::new());
    }
    let chosen = choose_points(work).await?;
    let shared = Arc::new(StepContext {
        context: Arc::clone(&work.context),
        surroundings: Arc::clone(&work.surroundings),
        restorer,
        chosen,
    });
    let states = run_steps(work, &shared).await;
    if states.iter().all(|state| *state == StepState::Done) {
        run_checks(work).await;
    }
    Ok(given(work, &states))
}

fn given<J>(work: &Work<J>, states: &[StepState]) -> Vec<PathBuf> {
    let begun = work.named.plan.steps.iter().zip(states).filter(|(_, state)| **state != StepState::Waiting);
    begun
        .filter_map(|(step, _)| match &step.action {
            StepAction::Restore { to, .. } => Some(work.context.target.join(to)),
            _ => None,
        })
        .collect()
}

/// Journals what hides the primary. A drill that is continued by a process that is hidden less well says so.
async fn isolate<J: Journal>(work: &Work<J>) -> Result<()> {
    let now = isolation(&work.context);
    let recorded = now.clone();
    let recorded = work.journal.step("isolate", async move { Ok(StepOutput::Isolated(recorded)) }).await?;
    let StepOutput::Isolated(recorded) = recorded else { return Err(foreign("isolate")) };
    if recorded.proven && !now.proven {
        let less = async move { Ok(StepOutput::Isolated(now)) };
        work.journal.step::<StepOutput, _>("isolate after continuing", less).await?;
    }
    Ok(())
}

/// Hidden paths do not hide what is reached by network.
fn isolation(context: &DrillContext) -> Isolated {
    let mut isolated = context.isolation.clone();
    let kinds = ["postgres", "mysql", "ebs", "rds"];
    for source in context.policy.sources.iter().filter(|source| kinds.contains(&source.kind.word())) {
        isolated.proven = false;
        isolated.not_proven.push(format!("`{}` is a server, and the way to it is not cut off", source.name));
    }
    isolated
}

fn prepare(target: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let make = || {
        durable_file::create_directories(&target.join(plan::OWN_DIRECTORY).join("tmp"))?;
        std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o700))
    };
    make().or_fail(|| format!("cannot make the drill's directory {}", target.display()))
}

/// Journalled, so that a continued drill uses the same points though newer ones came meanwhile.
async fn choose_points<J: Journal>(work: &Work<J>) -> Result<BTreeMap<String, String>> {
    let context = Arc::clone(&work.context);
    let sources: Vec<String> = work
        .named
        .plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            StepAction::Restore { source, .. } => Some(source.clone()),
            _ => None,
        })
        .collect();
    let choose = async move {
        let choice = |source: String| {
            points_at(&context.points, &source, context.at).map(|point| (source.clone(), point.id.clone()))
        };
        Ok(sources.into_iter().filter_map(choice).collect())
    };
    work.journal.step("choose points", choose).await
}

/// Runs the graph: what may run side by side does, what stands behind a failed step is never begun.
async fn run_steps<J: Journal>(work: &Arc<Work<J>>, shared: &Arc<StepContext>) -> Vec<StepState> {
    let mut states = vec![StepState::Waiting; work.named.steps.len()];
    let mut tasks = JoinSet::new();
    let mut positions = HashMap::new();
    loop {
        for position in work.named.order.ready(&states) {
            states[position] = StepState::Running;
            let task = tasks.spawn(run_step(Arc::clone(work), Arc::clone(shared), position));
            positions.insert(task.id(), position);
        }
        let (task, done) = match tasks.join_next_with_id().await {
            None => return states,
            Some(Ok((task, result))) => (task, result.is_ok()),
            Some(Err(panicked)) => (panicked.id(), false),
        };
        if let Some(&position) = positions.get(&task) {
            states[position] = if done { StepState::Done } else { StepState::Failed };
        }
    }
}

async fn run_step<J: Journal>(work: Arc<Work<J>>, shared: Arc<StepContext>, position: usize) -> Result<()> {
    let (step, name) = (work.named.plan.steps[position].clone(), work.named.steps[position].clone());
    let effect = steps::perform(Arc::clone(&shared), step, position, name.clone());
    let output: StepOutput = work.journal.step(&name, effect).await?;
    if let StepOutput::Restored(restored) = output {
        measure_source(&work, &shared, &restored).await?;
    }
    Ok(())
}

/// Right after the restore, before a script can write into the data. Data that does not prove its time fails the
/// drill by its own step, but does not keep the rest from being tried.
async fn measure_source<J: Journal>(work: &Work<J>, shared: &StepContext, restored: &Restored) -> Result<()> {
    let (measured, known) = steps::restored(shared, restored)?;
    if !work.measured.lock().unwrap_or_else(PoisonError::into_inner).insert(restored.source.clone()) {
        return Ok(());
    }
    let step = format!("recovered to: {}", restored.source);
    let (name, surroundings) = (step.clone(), Arc::clone(&shared.surroundings));
    let effect = async move {
        let ask = move |query: &str, limit| databases::value(&known, &surroundings, &name, query, limit);
        let read = tokio::task::spawn_blocking(move || measure::recovered_to(&measured, &ask)).await;
        Ok(StepOutput::RecoveredTo(read.or_fail(|| "the measurement broke off".into())??))
    };
    // The failure is in the journal.
    let _: Result<StepOutput> = work.journal.step(&step, effect).await;
    Ok(())
}

async fn run_checks<J: Journal>(work: &Work<J>) {
    for (check, name) in work.named.plan.checks.iter().zip(&work.named.checks) {
        let effect = run_check(check.clone(), name.clone(), Arc::clone(&work.surroundings), Arc::clone(&work.context));
        // The failure is in the journal, and the next check is still worth its evidence.
        let _: Result<StepOutput> = work.journal.step(name, effect).await;
    }
}

async fn run_check(
    check: Check,
    name: String,
    surroundings: Arc<Surroundings>,
    context: Arc<DrillContext>,
) -> Result<StepOutput> {
    checks::run(&check, &name, &surroundings, context.clock.as_ref()).await.map(StepOutput::Checked)
}

async fn clean_up<J: Journal>(work: &Work<J>, restored: Vec<PathBuf>) -> Result<()> {
    let surroundings = Arc::clone(&work.surroundings);
    let effect = async move {
        let cleaned = tokio::task::spawn_blocking(move || cleanup::clean_up(&surroundings, &restored)).await;
        Ok(StepOutput::CleanedUp(cleaned.or_fail(|| "the clean-up broke off".into())?))
    };
    work.journal.step::<StepOutput, _>("clean up", effect).await?;
    Ok(())
}

#[cfg(test)]
#[path = "drill_tests.rs"]
mod tests;
