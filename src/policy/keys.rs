//! Every key of a policy, described once; those of sources are in [`super::source_keys`], those of plans in
//! [`super::plan_keys`].

use super::form::Form;
use super::plan_keys::PLAN;
use super::source_keys::{HOOKS, SOURCE};
use super::table::{Case, Choice, Field, Need, Shape, Table};

use Need::{Default, Optional, Required};
use Shape::{Count, Named, Text, Texts};

const PROVIDERS: &[&str] = &["local", "aws"];
/// Those that answer at once: a pack in a colder one could not be read when a backup or restore needs it.
const STORAGE_CLASSES: &[&str] = &["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];
/// Larger counts keep everything anyway.
const KEEP_MAX: u64 = 100_000;

pub(crate) const fn key(name: &'static str, shape: Shape, need: Need, doc: &'static str) -> Field {
    Field { name, shape, need, doc }
}

pub(crate) const fn case(word: &'static str, doc: &'static str, fields: &'static [Field]) -> Case {
    Case { word, doc, fields }
}

/// The whole file.
pub(crate) static POLICY: Table = Table {
    title: "the policy",
    header: "",
    doc: "One file describes one system: what is backed up, where to, when, for how long, and how it comes back.",
    choice: Choice::None,
    fields: &[
        key(
            "system",
            Text(Form::Name),
            Required,
            "Name of the system; it is part of every path and tag at the DR site.",
        ),
        key("timezone", Text(Form::TimeZone), Default("UTC"), "Zone of schedule, window and retention periods."),
        key(
            "objectives",
            Shape::Table(&OBJECTIVES),
            Optional,
            "What is promised; drills and `status` are held against it.",
        ),
        key("primary", Shape::Table(&PRIMARY), Required, "Where the system runs."),
        key("dr", Shape::Table(&DR), Required, "Where everything needed to bring the system back is kept."),
        key("source", Shape::Tables(&SOURCE, 1), Required, "What is backed up."),
        key("hooks", Shape::Table(&HOOKS), Optional, "What runs before and after each backup as a whole."),
        key(
            "schedule",
            Shape::Table(&SCHEDULE),
            Optional,
            "When backups and drills run. Without it they run only by hand.",
        ),
        key("retention", Shape::Table(&RETENTION), Optional, "What is kept. Without any rule everything is kept."),
        key(
            "plan",
            Named(&PLAN),
            Optional,
            "Recovery plans by name. The plan called `drill` is the one `lifeboat drill` runs; without it a \
             plan is made that restores every source and looks at what came back.",
        ),
        key("notify", Shape::Table(&NOTIFY), Optional, "Who hears of incidents."),
    ],
};

static OBJECTIVES: Table = Table {
    title: "objectives",
    header: "[objectives]",
    doc: "Objectives that drills are measured against.",
    choice: Choice::None,
    fields: &[
        key(
            "rpo",
            Text(Form::Duration),
            Optional,
            "Recovery point objective: the most data that may be lost, as time.",
        ),
        key(
            "rto",
            Text(Form::Duration),
            Optional,
            "Recovery time objective: the longest time until the system serves again.",
        ),
    ],
};

static PRIMARY: Table = Table {
    title: "[primary]",
    header: "[primary]",
    doc: "The primary site.",
    fields: &[key("provider", Text(Form::Words(PROVIDERS)), Required, "`local` (this machine) or `aws`.")],
    choice: Choice::ByValue(
        "provider",
        &[
            case("local", "The machine lifeboat runs on.", &[]),
            case(
                "aws",
                "An AWS region.",
                &[key("region", Text(Form::Region), Required, "The region the system runs in.")],
            ),
        ],
    ),
};

static DR: Table = Table {
    title: "[dr]",
    header: "[dr]",
    doc: "The DR site.",
    fields: &[
        key(
            "provider",
            Text(Form::Words(PROVIDERS)),
            Required,
            "`local` (a directory, best on another machine's disk) or `aws`.",
        ),
        key(
            "repository_password",
            Text(Form::Secret),
            Required,
            "Where the password of the repository is found. Without the password nothing can be restored: keep \
             a copy elsewhere.",
        ),
    ],
    choice: Choice::ByValue(
        "provider",
        &[
            case(
                "local",
                "A directory.",
                &[key(
                    "path",
                    Text(Form::AbsolutePath),
                    Required,
                    "The directory. It lies in no source, and no source lies in it.",
                )],
            ),
            case(
                "aws",
                "A bucket, on AWS or on another server that speaks S3.",
                &[
                    key("region", Text(Form::Region), Required, "Region of the bucket and of the copied snapshots."),
                    key("bucket", Text(Form::Bucket), Required, "The bucket. lifeboat does not make it."),
                    key(
                        "prefix",
                        Text(Form::RelativePath),
                        Optional,
                        "Directory in the bucket, so that several systems share one.",
                    ),
                    key(
                        "endpoint",
                        Text(Form::Url),
                        Optional,
                        "Address of another S3 server. Without it, AWS (or what `AWS_ENDPOINT_URL` says).",
                    ),
                    key(
                        "path_style",
                        Shape::Flag,
                        Default("`true` with an endpoint, else `false`"),
                        "Whether the bucket stands in the path of the address instead of its host name.",
                    ),
                    key(
                        "storage_class",
                        Text(Form::Words(STORAGE_CLASSES)),
                        Default("`STANDARD`"),
                        "Storage class of packs. Everything else is small, read often, and stays in `STANDARD`.",
                    ),
                    key(
                        "object_lock",
                        Shape::Table(&OBJECT_LOCK),
                        Optional,
                        "Nobody deletes or replaces what was stored before so many days have gone by. The bucket \
                         must have been made with Object Lock. Repository locks are never held so.",
                    ),
                    key(
                        "access_key",
                        Text(Form::Secret),
                        Optional,
                        "Where the access key id is found. Without it, AWS's own chain: environment, profile, \
                         container, instance.",
                    ),
                    key("secret_key", Text(Form::Secret), Optional, "Where the secret access key is found."),
                    key("session_token", Text(Form::Secret), Optional, "Where the token of a session is found."),
                    key(
                        "kms_key",
                        Text(Form::Plain),
                        Optional,
                        "KMS key in that region, id or alias, for copies of encrypted snapshots.",
                    ),
                ],
            ),
        ],
    ),
};

static OBJECT_LOCK: Table = Table {
    title: "object_lock",
    header: "",
    doc: "How long stored objects are held.",
    choice: Choice::None,
    fields: &[
        key(
            "mode",
            Text(Form::Words(&["governance", "compliance"])),
            Required,
            "`compliance`: nobody lifts it, not even the owner of the account. `governance`: a special permission does.",
        ),
        key("days", Count(1, 36_500), Required, "Days from the moment an object is stored."),
    ],
};

static SCHEDULE: Table = Table {
    title: "[schedule]",
    header: "[schedule]",
    doc: "When backups and drills run, in the policy's time zone.",
    choice: Choice::None,
    fields: &[
        key(
            "backup",
            Text(Form::Cadence),
            Optional,
            "`daily HH:MM`, `every 30m`, a cron line, or `auto`: as often as the objective and the change rate ask.",
        ),
        key("drill", Text(Form::Cadence), Optional, "As `backup`, without `auto`."),
        key(
            "window",
            Text(Form::Window),
            Optional,
            "Backups start only within this window; an end before the start is on the next day.",
        ),
    ],
};

static RETENTION: Table = Table {
    title: "[retention]",
    header: "[retention]",
    doc: "What is kept, and what goes to cold storage.",
    choice: Choice::None,
    fields: &[
        key("online", Text(Form::Duration), Optional, "Every point younger than this is kept and answers at once."),
        key("keep", Shape::Table(&KEEP), Optional, "Beyond `online`: the newest point of each period."),
        key("archive", Shape::Table(&ARCHIVE), Optional, "Which points go to cold storage."),
    ],
};

static KEEP: Table = Table {
    title: "keep",
    header: "",
    doc: "So many periods of each length, counted in the policy's time zone.",
    choice: Choice::None,
    fields: &[
        key("last", Count(1, KEEP_MAX), Optional, "The newest points, whatever their age."),
        key("hourly", Count(1, KEEP_MAX), Optional, "The newest point of each of so many hours."),
        key("daily", Count(1, KEEP_MAX), Optional, "The newest point of each of so many days."),
        key("weekly", Count(1, KEEP_MAX), Optional, "The newest point of each of so many weeks (from Monday)."),
        key("monthly", Count(1, KEEP_MAX), Optional, "The newest point of each of so many months."),
        key("yearly", Count(1, KEEP_MAX), Optional, "The newest point of each of so many years."),
    ],
};

static ARCHIVE: Table = Table {
    title: "archive",
    header: "",
    doc: "Which points go to cold storage, when, where and for how long.",
    fields: &[
        key(
            "which",
            Text(Form::Words(&["daily", "weekly", "monthly", "yearly", "all"])),
            Required,
            "The newest point of each such period, or `all`.",
        ),
        key("after", Text(Form::Duration), Optional, "Age at which a point is archived. Without it, only by hand."),
        key(
            "to",
            Text(Form::Words(&["directory", "glacier", "s3"])),
            Required,
            "The cold place; decides which keys follow.",
        ),
        key("keep", Text(Form::Duration), Optional, "How long an archive is kept. Without it, for ever."),
    ],
    choice: Choice::ByValue(
        "to",
        &[
            case(
                "directory",
                "A directory.",
                &[key("path", Text(Form::AbsolutePath), Required, "The directory. It lies in no source.")],
            ),
            case("glacier", "A Glacier vault.", &[key("vault", Text(Form::Plain), Required, "The vault.")]),
            case(
                "s3",
                "An S3 storage class.",
                &[key(
                    "class",
                    Text(Form::Words(&["GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"])),
                    Required,
                    "The storage class.",
                )],
            ),
        ],
    ),
};

static NOTIFY: Table = Table {
    title: "[notify]",
    header: "[notify]",
    doc: "Who hears of incidents.",
    choice: Choice::None,
    fields: &[
        key("mail", Shape::Table(&MAIL), Optional, "Mail."),
        key("webhook", Text(Form::Secret), Optional, "Where the URL of a webhook is found."),
        key("heartbeat", Text(Form::Secret), Optional, "Where the URL of a dead-man's switch is found."),
    ],
};

static MAIL: Table = Table {
    title: "mail",
    header: "",
    doc: "Mail delivery.",
    choice: Choice::None,
    fields: &[
        key("to", Texts(Form::MailAddress, 1), Required, "Recipients."),
        key("smtp", Text(Form::Secret), Required, "Where the SMTP URL is found."),
        key("weekly", Text(Form::Weekly), Optional, "When the weekly status is sent."),
    ],
};
