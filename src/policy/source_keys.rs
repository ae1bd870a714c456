//! Every key of a source, and of the hooks that may stand around one or around a whole backup.

use super::form::Form;
use super::keys::{case, key};
use super::table::{Choice, Need, Shape, Table};

use Need::{Default, Optional, Required};
use Shape::{Text, Texts, Yes};

/// The kinds of source, in the order they are documented.
pub(crate) const KINDS: &[&str] =
    &["files", "logs", "image", "sqlite", "postgres", "mysql", "command", "repository", "ebs", "rds"];

pub(crate) static SOURCE: Table = Table {
    title: "a source",
    header: "[[source]]",
    doc: "One thing that is backed up.",
    fields: &[
        key("name", Text(Form::Name), Required, "Unique name; points, plans and restores refer to it."),
        key("kind", Text(Form::Words(KINDS)), Required, "What it is; decides which keys follow."),
        key(
            "beacon",
            Shape::Table(&BEACON),
            Optional,
            "A time mark inside the data, read back after a restore to measure the RPO.",
        ),
        key("hooks", Shape::Table(&HOOKS), Optional, "What runs before and after this source is read."),
    ],
    choice: Choice::ByValue(
        "kind",
        &[
            case(
                "files",
                "Directory trees and single files.",
                &[
                    key("paths", Texts(Form::AbsolutePath, 1), Required, "Directories and files."),
                    key(
                        "exclude",
                        Texts(Form::Glob, 0),
                        Default("nothing"),
                        "Patterns of what is left out: beginning with `/`, of absolute paths; without any `/`, of names at any depth; else of paths below the configured one.",
                    ),
                ],
            ),
            case(
                "logs",
                "Append-only files: what was read once is not read again.",
                &[
                    key(
                        "paths",
                        Texts(Form::AbsoluteGlob, 1),
                        Required,
                        "Patterns of files; `*` stays within a directory, `**` crosses directories. A symbolic link is stored as a link: name the file.",
                    ),
                    key(
                        "exclude",
                        Texts(Form::Glob, 0),
                        Default("nothing"),
                        "Patterns of what is left out: beginning with `/`, of absolute paths; without any `/`, of names at any depth; else of paths below the configured one.",
                    ),
                    key(
                        "full_read",
                        Text(Form::Duration),
                        Default("7d"),
                        "How often every file is read whole, to prove that what was kept unread is still right: a change in the middle of a log that also grew is seen by that read only, and points between hold other bytes there.",
                    ),
                ],
            ),
            case(
                "image",
                "A disk image file or a block device.",
                &[key("path", Text(Form::AbsolutePath), Required, "The file or device.")],
            ),
            case(
                "sqlite",
                "A SQLite database, taken consistently while it is being written.",
                &[key("path", Text(Form::AbsolutePath), Required, "The database file.")],
            ),
            case(
                "postgres",
                "A whole PostgreSQL cluster, consistent while it is being written: all databases, roles and settings. Its user may replicate.",
                &[
                    key("dsn", Text(Form::Secret), Required, "Where the connection string is found."),
                    key(
                        "database",
                        Text(Form::Plain),
                        Default("the one connected to"),
                        "The database that `sql` checks and beacons are asked.",
                    ),
                    key(
                        "programs",
                        Text(Form::AbsolutePath),
                        Default("where distributions keep them"),
                        "Directory of PostgreSQL's programs: psql and pg_basebackup, and for drills postgres and pg_controldata.",
                    ),
                    key(
                        "timeout",
                        Text(Form::Duration),
                        Default("12h"),
                        "How long a backup may take before it is ended.",
                    ),
                ],
            ),
            case(
                "mysql",
                "All databases of a MariaDB or MySQL server, with users and grants, dumped in one transaction while they are being written.",
                &[
                    key("dsn", Text(Form::Secret), Required, "Where the connection string is found."),
                    key(
                        "database",
                        Text(Form::Plain),
                        Default("the one connected to"),
                        "The database that `sql` checks and beacons are asked.",
                    ),
                    key(
                        "programs",
                        Text(Form::AbsolutePath),
                        Default("where distributions keep them"),
                        "Directory of the vendor's programs: mariadb and mariadb-dump (mysql and mysqldump), and for drills mariadbd and mariadb-install-db (mysqld), which may lie beside it.",
                    ),
                    key(
                        "timeout",
                        Text(Form::Duration),
                        Default("12h"),
                        "How long a backup may take before it is ended. Of it, at most half and 10 minutes are spent on waiting for one locked table.",
                    ),
                ],
            ),
            case(
                "command",
                "What a command writes to its standard output, as one file. Its exit code must be 0.",
                &[
                    key(
                        "run",
                        Texts(Form::Plain, 1),
                        Required,
                        "The program, by its path or by its name below the usual directories, and its arguments. No shell looks at them: `[\"sh\", \"-c\", \"...\"]` is one.",
                    ),
                    key("file", Text(Form::FileName), Required, "Name of the file that the output becomes."),
                    key(
                        "environment",
                        Texts(Form::Variable, 0),
                        Default("nothing"),
                        "Variables of the command's environment and where their values are found, each as `NAME=REFERENCE`: `PGPASSWORD=env:SHOP_PASSWORD`. Beside them it has only `PATH`, `LANG`, `HOME`, `TMPDIR`, `LIFEBOAT_RUN` and `LIFEBOAT_STEP`.",
                    ),
                    key("timeout", Text(Form::Duration), Default("12h"), "How long it may take before it is ended."),
                ],
            ),
            case(
                "repository",
                "An existing restic repository: each of its snapshots gets a recovery point where it is, and nothing is \
                 read or stored again. It is only ever read.",
                &[
                    key(
                        "path",
                        Text(Form::AbsolutePath),
                        Required,
                        "The repository's directory. It is not the DR site's own.",
                    ),
                    key("password", Text(Form::Secret), Required, "Where the repository's password is found."),
                    key(
                        "host",
                        Text(Form::Plain),
                        Optional,
                        "Only snapshots of this host, as `restic snapshots` names it.",
                    ),
                    key(
                        "tags",
                        Texts(Form::Plain, 1),
                        Default("whatever their tags are"),
                        "Only snapshots that carry each of these tags.",
                    ),
                ],
            ),
            case(
                "ebs",
                "EBS volumes, as snapshots copied to the DR region. The primary is on AWS.",
                &[
                    key("select", Shape::Table(&EBS_SELECT), Required, "Which volumes."),
                    key(
                        "crash_consistent",
                        Text(Form::Words(&["instance"])),
                        Optional,
                        "`instance`: all volumes of an instance are taken at one moment.",
                    ),
                ],
            ),
            case(
                "rds",
                "An RDS instance or cluster, as snapshots copied to the DR region. The primary is on AWS. \
                 Exactly one of `instance` and `cluster`.",
                &[
                    key("instance", Text(Form::Plain), Optional, "Identifier of the instance."),
                    key("cluster", Text(Form::Plain), Optional, "Identifier of the cluster."),
                    key(
                        "user",
                        Text(Form::Secret),
                        Optional,
                        "Where the database user is found; needed by `sql` checks and beacons.",
                    ),
                    key("password", Text(Form::Secret), Optional, "Where that user's password is found."),
                ],
            ),
        ],
    ),
};

pub(crate) static HOOKS: Table = Table {
    title: "hooks",
    header: "",
    doc: "Commands that run on this machine around a backup or a source: they quiesce, mount, stop, and undo that again. \
          Each is a program and its arguments, without a shell, with a clean environment and `LIFEBOAT_SYSTEM`, \
          `LIFEBOAT_RUN`, `LIFEBOAT_HOOK` (`before` or `after`) and, around a source, `LIFEBOAT_SOURCE`.",
    choice: Choice::None,
    fields: &[
        key("before", Texts(Form::Plain, 1), Optional, "Runs first. When it fails, nothing is read."),
        key(
            "after",
            Texts(Form::Plain, 1),
            Optional,
            "Runs whatever became of `before` and of the reading. When lifeboat is killed in between, the next backup runs it first.",
        ),
        key("timeout", Text(Form::Duration), Default("15m"), "How long each may take before it is ended."),
    ],
};

static BEACON: Table = Table {
    title: "a beacon",
    header: "",
    doc: "Exactly one of the following. The value read is RFC 3339 text or Unix seconds.",
    fields: &[],
    choice: Choice::ByKey(&[
        case(
            "sql",
            "Databases.",
            &[key(
                "sql",
                Text(Form::Plain),
                Required,
                "A query with one value, the newest moment in the data. Databases only.",
            )],
        ),
        case(
            "file",
            "Files and logs.",
            &[key(
                "file",
                Text(Form::RelativePath),
                Required,
                "A file below the source's restored root that holds the moment. Files and logs only.",
            )],
        ),
        case(
            "newest_entry",
            "Files and logs.",
            &[key(
                "newest_entry",
                Yes,
                Required,
                "The newest modification time among the restored entries; right only for data that is written \
                 all the time. Files and logs only.",
            )],
        ),
    ]),
};

static EBS_SELECT: Table = Table {
    title: "select",
    header: "",
    doc: "Which EBS volumes: exactly one of the following.",
    fields: &[],
    choice: Choice::ByKey(&[
        case("tag", "By tag.", &[key("tag", Text(Form::Tag), Required, "Volumes that carry this tag, `key=value`.")]),
        case("volumes", "By id.", &[key("volumes", Texts(Form::Volume, 1), Required, "Volumes by id.")]),
        case(
            "instance",
            "By instance.",
            &[key("instance", Text(Form::Instance), Required, "All volumes of this instance.")],
        ),
    ]),
};
