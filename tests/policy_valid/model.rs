//! What a valid policy means: every key reaches the model, defaults are filled in.

use std::time::Duration;

use lifeboat::ground::SecretReference;
use lifeboat::policy::{self, *};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn parse(text: &str) -> Policy {
    policy::parse("test.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The AWS example of the design.
const ACME: &str = r#"
system    = "acme-prod"
timezone  = "Europe/Paris"
objectives = { rpo = "24h", rto = "4h" }

[primary]
provider = "aws"            # or "local"
region   = "us-east-1"

[dr]
provider = "aws"
region   = "us-west-2"
bucket   = "acme-dr"
kms_key  = "alias/acme-dr"
repository_password = "command:aws secretsmanager get-secret-value ..."

[[source]]
name = "artifacts"
kind = "files"
paths = ["/opt/wso2is/repository/deployment", "/opt/wso2is/repository/conf"]
exclude = ["**/tmp/**"]

[[source]]
name = "logs"
kind = "logs"
paths = ["/opt/wso2is/repository/logs/*.log*"]

[[source]]
name = "volumes"
kind = "ebs"
select = { tag = "system=acme-prod" }
crash_consistent = "instance"

[[source]]
name = "identity-db"
kind = "rds"
instance = "acme-identity"
user = "env:DB_USER"
password = "env:DB_PASSWORD"
beacon = { sql = "select max(updated_at) from idn_oauth2_access_token" }

[schedule]
backup = "daily 00:30"
window = "00:00-02:00"
drill  = "0 4 1 * *"

[retention]
online   = "90d"
keep     = { daily = 7, weekly = 5, monthly = 12 }
archive  = { which = "monthly", after = "90d", to = "glacier", vault = "acme-archive", keep = "7y" }

[[plan.drill.step]]
name = "database"
restore = "identity-db"
[[plan.drill.step]]
name = "files"
restore = "artifacts"
to = "wso2is"
[[plan.drill.step]]
name = "start"
script = "start-identity-server.sh"
after = ["database", "files"]
[[plan.drill.check]]
http = "https://localhost:9443/carbon/admin/login.jsp"
within = "10m"
[[plan.drill.check]]
sql = "select count(*) from um_user"
on = "identity-db"
expect = "> 0"

[notify]
mail = { to = ["ops@acme.example"], smtp = "env:SMTP_URL", weekly = "mon 08:00" }
webhook = "env:ALERT_WEBHOOK"
heartbeat = "env:HEARTBEAT_URL"
"#;

/// The local example of the design.
const SHOP: &str = r#"
system    = "shop"
timezone  = "UTC"
objectives = { rpo = "1h", rto = "15m" }
[primary]
provider = "local"
[dr]
provider = "local"
path = "/mnt/dr/shop"
repository_password = "file:/etc/lifeboat/shop.password"
[[source]]
name = "files"
kind = "files"
paths = ["/srv/shop"]
[[source]]
name = "orders"
kind = "sqlite"
path = "/var/lib/shop/orders.db"
beacon = { sql = "select max(at) from orders" }
[[source]]
name = "disk"
kind = "image"
path = "/dev/vg0/data"
[[source]]
name = "accounts"
kind = "postgres"
dsn = "env:ACCOUNTS_DSN"
[schedule]
backup = "every 30m"
[retention]
online = "30d"
archive = { which = "monthly", after = "30d", to = "directory", path = "/mnt/cold/shop", keep = "5y" }
[[plan.drill.step]]
restore = "files"
[[plan.drill.step]]
restore = "orders"
[[plan.drill.check]]
sql = "select count(*) from orders"
on = "orders"
expect = "> 0"
"#;

/// The least that is a policy.
const LEAST: &str = r#"
system = "least"
primary = { provider = "local" }
dr = { provider = "local", path = "/dr", repository_password = "env:P" }
source = [
    { name = "files", kind = "files", paths = ["/srv"] },
    { name = "db", kind = "sqlite", path = "/var/x.db" },
]
"#;

#[test]
fn sites_objectives_and_schedule_reach_the_model() {
    let acme = parse(ACME);
    assert_eq!((acme.system.as_str(), acme.timezone.as_str()), ("acme-prod", "Europe/Paris"));
    assert_eq!(acme.objectives, Objectives { rpo: Some(DAY), rto: Some(4 * HOUR) });
    assert_eq!(acme.primary, Primary::Aws { region: "us-east-1".into() });
    let DrLocation::Aws { region, bucket, kms_key, repository_password, .. } = &acme.dr else {
        panic!("{:?}", acme.dr)
    };
    assert_eq!((region.as_str(), bucket.as_str(), kms_key.as_deref()), ("us-west-2", "acme-dr", Some("alias/acme-dr")));
    let command = "aws secretsmanager get-secret-value ...".to_owned();
    assert_eq!(*repository_password, SecretReference::Command(command));
    assert_eq!(acme.schedule.backup, Some(Cadence::Daily { hour: 0, minute: 30 }));
    assert_eq!(acme.schedule.drill, Some(Cadence::Cron("0 4 1 * *".into())));
    assert_eq!(acme.schedule.window, Some(Window { start_minute: 0, end_minute: 120 }));
    assert_eq!(acme.text, ACME);
}

#[test]
fn sources_reach_the_model_in_their_order() {
    let acme = parse(ACME);
    let words: Vec<_> = acme.sources.iter().map(|source| (source.name.as_str(), source.kind.word())).collect();
    assert_eq!(words, [("artifacts", "files"), ("logs", "logs"), ("volumes", "ebs"), ("identity-db", "rds")]);
    let SourceKind::Files { paths, exclude } = &acme.sources[0].kind else { panic!() };
    assert_eq!((paths.len(), exclude.as_slice()), (2, ["**/tmp/**".to_owned()].as_slice()));
    let SourceKind::Ebs { select, crash_consistent } = &acme.sources[2].kind else { panic!() };
    assert_eq!(*select, EbsSelection::Tag { key: "system".into(), value: "acme-prod".into() });
    assert_eq!(crash_consistent.as_deref(), Some("instance"));
    let rds = acme.source("identity-db").expect("the source");
    assert!(
        matches!(&rds.kind, SourceKind::Rds { instance: Some(i), cluster: None, user: Some(_), password: Some(_) } if i == "acme-identity")
    );
    assert_eq!(rds.beacon, Some(Beacon::Sql("select max(updated_at) from idn_oauth2_access_token".into())));
    assert!(acme.source("nothing").is_none());

    let shop = parse(SHOP);
    let words: Vec<_> = shop.sources.iter().map(|source| source.kind.word()).collect();
    assert_eq!(words, ["files", "sqlite", "image", "postgres"]);
}

#[test]
fn retention_and_notify_reach_the_model() {
    let acme = parse(ACME);
    assert_eq!(acme.retention.online, Some(90 * DAY));
    let keep = KeepRules { daily: Some(7), weekly: Some(5), monthly: Some(12), ..KeepRules::default() };
    assert_eq!(acme.retention.keep, keep);
    let archive = ArchiveRule {
        which: "monthly".into(),
        after: Some(90 * DAY),
        to: ArchiveTarget::Glacier { vault: "acme-archive".into() },
        keep: Some(7 * 365 * DAY),
    };
    assert_eq!(acme.retention.archive, Some(archive));
    let notify = acme.notify.expect("notify");
    assert_eq!(notify.webhook, Some(SecretReference::Env("ALERT_WEBHOOK".into())));
    assert_eq!(notify.heartbeat, Some(SecretReference::Env("HEARTBEAT_URL".into())));
    let mail = notify.mail.expect("mail");
    assert_eq!((mail.to, mail.weekly.as_deref()), (vec!["ops@acme.example".to_owned()], Some("mon 08:00")));
    let to = parse(SHOP).retention.archive.expect("an archive rule").to;
    assert_eq!(to, ArchiveTarget::Directory { path: "/mnt/cold/shop".into() });
    let s3 = ACME.replace("to = \"glacier\", vault = \"acme-archive\"", "to = \"s3\", class = \"DEEP_ARCHIVE\"");
    let to = parse(&s3).retention.archive.expect("an archive rule").to;
    assert_eq!(to, ArchiveTarget::S3Class { class: "DEEP_ARCHIVE".into() });
}

#[test]
fn plans_reach_the_model_with_names_and_defaults() {
    let acme = parse(ACME);
    let drill = acme.plan("drill").expect("the drill plan");
    assert_eq!(drill.steps[1].action, StepAction::Restore { source: "artifacts".into(), to: "wso2is".into() });
    assert_eq!(drill.steps[2].after, ["database", "files"]);
    assert_eq!(drill.order(), Some(vec![0, 1, 2]));
    assert_eq!(acme.scripts().into_iter().collect::<Vec<_>>(), ["start-identity-server.sh"]);
    let [http, sql] = drill.checks.as_slice() else { panic!("{:?}", drill.checks) };
    assert_eq!((http.within, http.retry), (10 * Duration::from_secs(60), true));
    assert!(matches!(http.kind, CheckKind::Http { status: 200, tls_verify: true, body: None, .. }));
    assert_eq!((sql.name.as_str(), sql.within, sql.retry), ("sql on identity-db", Duration::from_secs(60), false));

    let shop = parse(SHOP);
    let steps = &shop.plan("drill").expect("the drill plan").steps;
    assert_eq!((steps[0].name.as_str(), steps[0].timeout), ("restore files", 24 * HOUR));
    assert_eq!(steps[1].action, StepAction::Restore { source: "orders".into(), to: "orders".into() });
}

#[test]
fn every_step_and_check_form_is_read() {
    let text = format!(
        "{SHOP}
[[plan.other.step]]
wait = \"90s\"
[[plan.other.step]]
script = \"a.sh\"
args = [\"--x\", \"\"]
timeout = \"2m\"
after = [\"wait 90s\"]
[[plan.other.check]]
command = \"true\"
[[plan.other.check]]
command = \"true\"
expect = \"ok\"
within = \"5s\"
[[plan.other.check]]
tcp = \"localhost:5432\"
[[plan.other.check]]
http = \"http://localhost/\"
status = 204
body = \"x\"
tls_verify = false
[[plan.other.check]]
file = \"a/b\"
sha256 = \"{}\"
",
        "ab".repeat(32)
    );
    let policy = parse(&text);
    let other = policy.plan("other").expect("the plan");
    assert_eq!(other.steps[0].action, StepAction::Wait { duration: Duration::from_secs(90) });
    assert_eq!(other.steps[0].timeout, Duration::from_secs(150));
    assert_eq!(
        other.steps[1].action,
        StepAction::Script { file: "a.sh".into(), args: vec!["--x".into(), String::new()] }
    );
    let names: Vec<&str> = other.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["command true", "command true (2)", "tcp localhost:5432", "http http://localhost/", "file a/b"]);
    let retried: Vec<(u64, bool)> = other.checks.iter().map(|check| (check.within.as_secs(), check.retry)).collect();
    assert_eq!(retried, [(60, false), (5, true), (30, true), (30, true), (60, false)]);
    assert!(matches!(&other.checks[3].kind, CheckKind::Http { status: 204, tls_verify: false, body: Some(_), .. }));
    assert!(matches!(&other.checks[4].kind, CheckKind::File { sha256: Some(sum), .. } if sum.len() == 64));
}

#[test]
fn the_other_beacons_selections_and_clusters_are_read() {
    let newest = LEAST.replace("paths = [\"/srv\"]", "paths = [\"/srv\"], beacon = { newest_entry = true }");
    assert_eq!(parse(&newest).sources[0].beacon, Some(Beacon::NewestEntry));
    let file = LEAST.replace("paths = [\"/srv\"]", "paths = [\"/srv\"], beacon = { file = \"var/mark\" }");
    assert_eq!(parse(&file).sources[0].beacon, Some(Beacon::File("var/mark".into())));
    let select = |written: &str| match &parse(&ACME.replace("{ tag = \"system=acme-prod\" }", written)).sources[2].kind
    {
        SourceKind::Ebs { select, .. } => select.clone(),
        other => panic!("{other:?}"),
    };
    let volumes = EbsSelection::Volumes(vec!["vol-0123456789abcdef0".into()]);
    assert_eq!(select("{ volumes = [\"vol-0123456789abcdef0\"] }"), volumes);
    assert_eq!(select("{ instance = \"i-0123456789abcdef0\" }"), EbsSelection::Instance("i-0123456789abcdef0".into()));
    let cluster = parse(&ACME.replace("instance = \"acme-identity\"", "cluster = \"acme-identity\""));
    assert!(matches!(&cluster.sources[3].kind, SourceKind::Rds { instance: None, cluster: Some(_), .. }));
}

#[test]
fn an_existing_repository_is_read_with_and_without_its_filters() {
    let source = |more: &str| {
        let kind = format!("kind = \"repository\", path = \"/srv/restic\", password = \"env:P\"{more}");
        let policy = parse(&LEAST.replace("kind = \"files\", paths = [\"/srv\"]", &kind));
        policy.sources[0].existing().expect("it is one").clone()
    };
    let plain = source("");
    assert_eq!((plain.path.as_str(), plain.host, plain.tags.len()), ("/srv/restic", None, 0));
    assert_eq!(plain.password, SecretReference::Env("P".into()));
    let filtered = source(", host = \"web1\", tags = [\"a\", \"b\"]");
    assert_eq!((filtered.host.as_deref(), filtered.tags), (Some("web1"), vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn the_least_policy_has_defaults_and_a_drill_of_its_own() {
    let least = parse(LEAST);
    assert_eq!(least.timezone, "UTC");
    assert_eq!(least.objectives, Objectives::default());
    assert!(least.plans.is_empty() && least.schedule.backup.is_none() && least.notify.is_none());
    let drill = least.default_drill_plan();
    let steps: Vec<&str> = drill.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["restore files", "restore db"]);
    let [file, sql] = drill.checks.as_slice() else { panic!("{:?}", drill.checks) };
    assert_eq!(file.kind, CheckKind::File { path: "files".into(), sha256: None });
    assert!(matches!(&sql.kind, CheckKind::Sql { on, expect, .. } if on == "db" && expect.holds("ok")));
    let written = parse(SHOP);
    assert_eq!(written.default_drill_plan().steps.len(), 2, "a plan that is written is the one that is drilled");
}

#[test]
fn the_hash_is_that_of_the_text() {
    let least = parse(LEAST);
    assert_eq!(least.hash().len(), 64);
    assert_ne!(least.hash(), parse(&format!("{LEAST}\n")).hash());
}

#[test]
fn an_excluded_dr_site_may_lie_inside_a_source() {
    let whole = LEAST.replace("paths = [\"/srv\"]", "paths = [\"/\"], exclude = [\"/dr/**\"]");
    assert!(policy::parse("test.toml", &whole).is_ok());
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_do_no_harm() {
    let windows = SHOP.replace('\n', "\r\n");
    assert_eq!(parse(&windows).sources.len(), 4);
    assert_eq!(parse(&format!("\u{feff}{SHOP}")).sources.len(), 4);
}

#[test]
fn dotted_keys_mean_the_same_as_tables() {
    let inline = "dr = { provider = \"local\", path = \"/dr\", repository_password = \"env:P\" }";
    let dotted = "dr.provider = \"local\"\ndr.path = \"/dr\"\ndr.repository_password = \"env:P\"";
    assert!(matches!(parse(&LEAST.replace(inline, dotted)).dr, DrLocation::Local { .. }));
    let missing = dotted.replace("dr.path = \"/dr\"\n", "");
    let found = policy::parse("test.toml", &LEAST.replace(inline, &missing)).expect_err("the path is missing");
    assert_eq!(found.errors.len(), 1, "{found}");
    assert!(found.to_string().starts_with("test.toml:4:1: \"path\" is missing"), "{found}");
}
