//! Every key of a plan, its steps and its checks.

use super::form::Form;
use super::keys::{case, key};
use super::table::{Choice, Need, Shape, Table};

use Need::{Default, Optional, Required};
use Shape::{Count, Flag, Text, Texts};

pub(crate) static PLAN: Table = Table {
    title: "a plan",
    header: "[plan.NAME]",
    doc: "An ordered graph of recovery steps, and the checks that prove the result.",
    choice: Choice::None,
    fields: &[
        key(
            "step",
            Shape::Tables(&STEP, 0),
            Optional,
            "Steps; at least one. They run in parallel where `after` allows.",
        ),
        key(
            "check",
            Shape::Tables(&CHECK, 0),
            Optional,
            "Checks, run in order when all steps are done. The plan `drill` has at least one.",
        ),
    ],
};

static STEP: Table = Table {
    title: "a step",
    header: "[[plan.NAME.step]]",
    doc: "One recovery step: exactly one of `restore`, `script` and `wait`.",
    fields: &[
        key(
            "name",
            Text(Form::Plain),
            Default("made from the action, such as `restore files`"),
            "Unique within the plan; `after` refers to it.",
        ),
        key("after", Texts(Form::Plain, 0), Default("nothing"), "Names of steps that must be done before."),
        key(
            "timeout",
            Text(Form::Duration),
            Default("24h for `restore`, 1h for `script`, one minute more than the wait for `wait`"),
            "Longest time the step may take.",
        ),
    ],
    choice: Choice::ByKey(&[
        case(
            "restore",
            "Restores a source.",
            &[
                key("restore", Text(Form::Plain), Required, "Name of the source to restore."),
                key(
                    "to",
                    Text(Form::RelativePath),
                    Default("the source's name"),
                    "Where to, below the fresh target directory.",
                ),
            ],
        ),
        case(
            "script",
            "Runs a recovery script.",
            &[
                key(
                    "script",
                    Text(Form::FileName),
                    Required,
                    "File in `scripts/` beside the policy; a copy is kept at the DR site and run from there.",
                ),
                key("args", Texts(Form::Any, 0), Default("none"), "Arguments."),
            ],
        ),
        case("wait", "Waits.", &[key("wait", Text(Form::Duration), Required, "How long.")]),
    ]),
};

static CHECK: Table = Table {
    title: "a check",
    header: "[[plan.NAME.check]]",
    doc: "One check: exactly one of `command`, `http`, `tcp`, `sql` and `file`.",
    fields: &[
        key(
            "name",
            Text(Form::Plain),
            Default("made from the check, such as `sql on orders`"),
            "Unique within the plan.",
        ),
        key(
            "within",
            Text(Form::Duration),
            Default("30s for `http` and `tcp`; for the others one attempt of at most 60s"),
            "Tried again until it passes or this has gone by.",
        ),
    ],
    choice: Choice::ByKey(&[
        case(
            "command",
            "A command of the shell.",
            &[
                key(
                    "command",
                    Text(Form::Plain),
                    Required,
                    "Run by `/bin/sh -c` in the target directory; passes with exit code 0.",
                ),
                key("expect", Text(Form::Expectation), Optional, "What its standard output must be."),
            ],
        ),
        case(
            "http",
            "A web page.",
            &[
                key("http", Text(Form::Url), Required, "Fetched with GET."),
                key("status", Count(100, 599), Default("200"), "The status that passes."),
                key("body", Text(Form::Plain), Optional, "A text that the body must hold."),
                key(
                    "tls_verify",
                    Flag,
                    Default("true"),
                    "`false` accepts any certificate, as a restored server often has another name.",
                ),
            ],
        ),
        case("tcp", "A port.", &[key("tcp", Text(Form::Address), Required, "Accepts a connection.")]),
        case(
            "sql",
            "A value of a restored database.",
            &[
                key("sql", Text(Form::Plain), Required, "A query with one value."),
                key(
                    "on",
                    Text(Form::Plain),
                    Required,
                    "The source whose restored database is asked; a step of this plan restores it.",
                ),
                key("expect", Text(Form::Expectation), Required, "What the value must be."),
            ],
        ),
        case(
            "file",
            "A restored file or directory.",
            &[
                key("file", Text(Form::RelativePath), Required, "A path below the target directory that must exist."),
                key("sha256", Text(Form::Sha256), Optional, "SHA-256 of its content."),
            ],
        ),
    ]),
};
