//! One mistake at a time: it is found, alone, on its line, and told with the words that help.

use super::base::{errors, with};

/// Changes one place of the base; expects exactly one mistake, told with all of `words`, at the text `at` (in the
/// changed policy).
#[track_caller]
fn refused(from: &str, to: &str, at: &str, words: &[&str]) {
    let text = with(from, to);
    let found = errors(&text);
    let [error] = found.errors.as_slice() else { panic!("one mistake, not:\n{found}") };
    let told = error.to_string();
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in: {told}");
    }
    assert!(text[error.span.start..].starts_with(at), "points at {:?}: {told}", &text[error.span.clone()]);
    let line = text[..error.span.start].matches('\n').count() + 1;
    let line_start = text[..error.span.start].rfind('\n').map_or(0, |newline| newline + 1);
    let column = text[line_start..error.span.start].chars().count() + 1;
    assert_eq!((error.line, error.column), (line, column));
}

#[test]
fn keys() {
    refused(
        "timezone =",
        "timezon =",
        "timezon",
        &["unknown key \"timezon\" in the policy", "did you mean \"timezone\"?"],
    );
    refused("rpo = \"1h\"", "rpoo = \"1h\"", "rpoo", &["in objectives", "one of rpo, rto", "did you mean \"rpo\"?"]);
    refused("exclude =", "exlude =", "exlude", &["in a source with kind = \"files\"", "did you mean \"exclude\"?"]);
    refused("kind = \"files\"", "kidn = \"files\"", "kidn", &["did you mean \"kind\"?"]);
    refused("system = \"shop\"\n", "", "", &["\"system\" is missing in the policy"]);
    refused("name = \"accounts\"\n", "", "[[source]]", &["\"name\" is missing in a source"]);
    refused("path = \"/mnt/dr/shop\"\n", "", "[dr]", &["\"path\" is missing in [dr] with provider = \"local\""]);
    refused(
        "path = \"/mnt/dr/shop\"",
        "path = \"/mnt/dr/shop\"\nregion = \"us-west-2\"",
        "region",
        &["does not belong to [dr]", "belongs to \"aws\""],
    );
    refused(
        "exclude =",
        "dsn = \"env:X\"\nexclude =",
        "dsn",
        &["does not belong to a source", "\"postgres\", \"mysql\""],
    );
    refused("status = 200", "statsu = 200", "statsu", &["did you mean \"status\"?"]);
    refused("tcp = \"localhost:5432\"", "tpc = \"localhost:5432\"", "tpc", &["did you mean \"tcp\"?"]);
    refused("dsn = \"env:ACCOUNTS_DSN\"\n", "", "[[source]]", &["\"dsn\" is missing", "env:NAME"]);
}

#[test]
fn types() {
    refused("\"shop\"\n", "7\n", "7", &["an integer stands for \"system\""]);
    refused("rpo = \"1h\"", "rpo = 1.5", "1.5", &["a floating-point number", "a duration such as"]);
    refused("[\"/srv/shop\"]", "\"/srv/shop\"", "\"/srv", &["a text stands for \"paths\"", "an array"]);
    refused("[\"/srv/shop\"]", "[]", "[]", &["\"paths\" is empty"]);
    refused("[\"/srv/shop\"]", "[1979-05-27]", "1979", &["a date or time stands for \"paths\""]);
    refused("daily = 7", "daily = 0", "0", &["0 is out of range for \"daily\""]);
    refused("daily = 7", "daily = -3", "-3", &["-3 is out of range"]);
    refused("daily = 7", "daily = 99999999999999999999", "999", &["out of range"]);
    refused("status = 200", "status = 99", "99", &["from 100 to 599"]);
    refused("newest_entry = true", "newest_entry = false", "false", &["can only be true"]);
    refused("expect = \"> 0\"", "expect = 5", "5", &["an integer", "did you mean \"5\"?"]);
    refused(
        "[primary]\nprovider = \"local\"",
        "[[primary]]\nprovider = \"local\"",
        "[[primary]]",
        &["an array stands for \"primary\""],
    );
}

#[test]
fn commands() {
    let command =
        |rest: &str| format!("[[source]]\nname = \"ldap\"\nkind = \"command\"\nrun = [\"slapcat\"]\n{rest}[schedule]");
    let refused = |rest: &str, at: &str, words: &[&str]| refused("[schedule]", &command(rest), at, words);
    refused("", "[[source]]", &["\"file\" is missing", "kind = \"command\""]);
    refused("file = \"a/b\"\n", "\"a/b\"", &["is no plain file name", "did you mean \"b\"?"]);
    let told = ["not shown", "NAME=env:..."];
    refused("file = \"f\"\nenvironment = [\"PASSWORD=hunter2\"]\n", "\"PASSWORD=", &["a value (not shown)"]);
    refused("file = \"f\"\nenvironment = [\"env:PASSWORD\"]\n", "\"env:PASSWORD", &told);
    refused("file = \"f\"\nbeacon = { newest_entry = true }\n", "newest_entry", &["no beacon"]);
}

#[test]
fn existing_repositories() {
    let source = |rest: &str| format!("[[source]]\nname = \"old\"\nkind = \"repository\"\n{rest}[schedule]");
    let refused = |rest: &str, at: &str, words: &[&str]| refused("[schedule]", &source(rest), at, words);
    let path = "path = \"/srv/restic\"\n";
    refused(path, "[[source]]", &["\"password\" is missing", "kind = \"repository\"", "env:NAME"]);
    refused("password = \"env:P\"\n", "[[source]]", &["\"path\" is missing"]);
    refused(&format!("{path}password = \"hunter2\"\n"), "\"hunter2", &["not shown"]);
    let whole = format!("{path}password = \"env:P\"\n");
    refused(&format!("{whole}tags = []\n"), "[]", &["\"tags\" is empty"]);
    refused(&format!("{whole}hosts = \"web1\"\n"), "hosts", &["did you mean \"host\"?"]);
    refused(&format!("{whole}beacon = {{ sql = \"select 1\" }}\n"), "sql", &["cannot be read from a source of kind"]);
    let inside = "path = \"/mnt/dr/shop/repository\"\npassword = \"env:P\"\n";
    refused(inside, "\"/mnt/dr/shop/repository\"", &["of source \"old\" lies inside the DR site"]);
    let around = "path = \"/mnt/cold\"\npassword = \"env:P\"\n";
    refused(around, "\"/mnt/cold/shop\"", &["nothing is written into an existing repository"]);
}

#[test]
fn names() {
    refused("system = \"shop\"", "system = \"../shop\"", "\"../shop\"", &["is no plain name"]);
    refused("system = \"shop\"", "system = \"My Shop\"", "\"My", &["did you mean \"my-shop\"?"]);
    refused("name = \"logs\"", "name = \"files\"", "\"files\"", &["two sources are called \"files\""]);
    refused("name = \"start\"\n", "name = \"app\"\n", "\"app\"", &["two steps of this plan are called \"app\""]);
    refused(
        "kind = \"sqlite\"",
        "kind = \"sqlit\"",
        "\"sqlit\"",
        &["files, logs, image, sqlite", "did you mean \"sqlite\"?"],
    );
    refused(
        "script = \"start.sh\"",
        "script = \"bin/start.sh\"",
        "\"bin",
        &["without \"/\"", "did you mean \"start.sh\"?"],
    );
}

#[test]
fn times() {
    refused("Europe/Paris", "Europe/Pariss", "\"Europe", &["no known time zone", "did you mean \"Europe/Paris\"?"]);
    refused("daily 00:30", "daily 25:00", "\"daily", &["names no time of day"]);
    refused("daily 00:30", "0 0 30 2 *", "\"0 0 30", &["a moment that never comes"]);
    refused("daily 00:30", "99 * * * *", "\"99", &["cannot be read"]);
    refused("daily 00:30", "daily 12:00", "\"daily", &["never falls into the window \"00:00-02:00\""]);
    refused("00:00-02:00", "24:30-", "\"24:30-\"", &["is no window", "HH:MM-HH:MM"]);
    refused("drill = \"0 4 1 * *\"", "drill = \"auto\"", "\"auto\"", &["says nothing about drills"]);
    refused("rpo = \"1h\"", "rpo = \"0h\"", "\"0h\"", &["a duration of zero"]);
    refused("rpo = \"1h\"", "rpo = \"99999999999999999999y\"", "\"999", &["longer than 1000 years"]);
    refused("rpo = \"1h\"", "rpo = \"24 hours\"", "\"24", &["did you mean \"24h\"?"]);
    refused("script = \"start.sh\"", "wait = \"2m\"\ntimeout = \"1m\"", "\"1m\"", &["before its wait is over"]);
}

#[test]
fn plans() {
    refused(
        "restore = \"files\"",
        "restore = \"filse\"",
        "\"filse\"",
        &["no source is called", "did you mean \"files\"?"],
    );
    refused(
        "after = [\"app\", \"db\"]",
        "after = [\"app\", \"bd\"]",
        "\"bd\"",
        &["no step of this plan is called", "did you mean \"db\"?"],
    );
    refused(
        "to = \"www/app\"",
        "to = \"www/app\"\nafter = [\"start\"]",
        "[\"start\"]",
        &["\"app\" after \"start\" after \"app\""],
    );
    refused("after = [\"app\", \"db\"]", "after = [\"start\"]", "[\"start\"]", &["\"start\" after \"start\""]);
    refused(
        "on = \"orders\"",
        "on = \"accounts\"",
        "\"accounts\"",
        &["no step of this plan restores", "restore = \"accounts\""],
    );
    refused("on = \"orders\"", "on = \"files\"", "\"files\"", &["is no database that answers a query", "\"orders\""]);
    refused("on = \"orders\"", "on = \"order\"", "\"order\"", &["no source is called", "did you mean \"orders\"?"]);
    refused("to = \"www/app\"", "to = \"orders/app\"", "\"orders\"", &["lie inside each other"]);
    refused("to = \"www/app\"", "to = \"orders\"", "\"orders\"", &["two steps restore into \"orders\""]);
    refused("to = \"www/app\"", "to = \"../app\"", "\"../app\"", &["\"..\" component"]);
    refused(
        "script = \"start.sh\"\n",
        "",
        "[[plan.drill.step]]",
        &["does not say what to do", "restore, script, wait"],
    );
    refused("script = \"start.sh\"", "script = \"start.sh\"\nwait = \"1m\"", "wait", &["both \"script\" and \"wait\""]);
    refused(
        "[[plan.drill.check]]\ntcp = \"localhost:5432\"",
        "[plan.other]",
        "other",
        &["the plan \"other\" has no steps"],
    );
    refused("[[plan.drill.check]]\ntcp", "[[plan.drill.check]]\nname = \"\"\ntcp", "\"\"", &["is empty"]);
}

#[test]
fn a_drill_without_a_check_is_told_what_to_add() {
    let start = super::base::BASE.find("[[plan.drill.check]]").expect("checks");
    let found = errors(&super::base::BASE[..start]);
    assert_eq!(found.errors.len(), 1, "{found}");
    assert!(
        found
            .to_string()
            .contains("without proving that any data came back; expected at least one [[plan.drill.check]]")
    );
}

#[test]
fn checks() {
    refused("http://localhost:8080/", "ftp://localhost/", "\"ftp", &["no http or https URL"]);
    refused("localhost:5432", "localhost", "\"localhost\"", &["no address of the form host:port"]);
    refused(
        "file = \"www/app/index.html\"",
        "file = \"/www/index.html\"",
        "\"/www",
        &["did you mean \"www/index.html\"?"],
    );
    refused("file = \"www/app/index.html\"", "file = \"a/../b\"", "\"a/", &["\"..\" component"]);
    refused("index.html\"", "index.html\"\nsha256 = \"abc\"", "\"abc\"", &["64 hexadecimal digits"]);
    refused("expect = \"> 0\"", "expect = \"> many\"", "\"> many\"", &["no number"]);
    refused("expect = \"> 0\"", "expect = \"=> 0\"", "\"=> 0\"", &["did you mean \">= 0\"?"]);
    refused("expect = \"> 0\"\n", "", "[[plan.drill.check]]", &["\"expect\" is missing in a check with \"sql\""]);
}

#[test]
fn paths() {
    refused("[\"/srv/shop\"]", "[\"srv/shop\"]", "\"srv", &["not an absolute path"]);
    refused("[\"/srv/shop\"]", "[\"/srv/../shop\"]", "\"/srv", &["\"..\" component"]);
    refused("\"/var/log/shop/*.log\"", "\"*.log\"", "\"*.log\"", &["not an absolute path"]);
    refused("\"/var/log/shop/*.log\"", "\"/var/log/[\"", "\"/var", &["no glob pattern"]);
    refused("**/tmp/**", "{tmp", "\"{tmp\"", &["no glob pattern"]);
    refused("path = \"/mnt/dr/shop\"", "path = \"dr\"", "\"dr\"", &["not an absolute path"]);
    refused("/var/lib/shop/orders.db", "orders.db", "\"orders.db\"", &["not an absolute path"]);
    refused("path = \"/mnt/cold/shop\"", "path = \"cold\"", "\"cold\"", &["not an absolute path"]);
}

#[test]
fn places_inside_each_other() {
    refused(
        "/mnt/dr/shop",
        "/srv/shop/dr",
        "\"/srv/shop/dr\"",
        &["the DR site", "lies inside \"/srv/shop\" of source \"files\""],
    );
    refused("/mnt/dr/shop", "/srv//shop/./dr/", "\"/srv//", &["the DR site"]);
    refused(
        "[\"/srv/shop\"]",
        "[\"/mnt/dr/shop/x\"]",
        "\"/mnt/dr/shop/x\"",
        &["of source \"files\" lies inside the DR site"],
    );
    refused("[\"/srv/shop\"]", "[\"/mnt/dr/shop\"]", "\"/mnt/dr/shop\"", &["of source \"files\" is the DR site"]);
    refused(
        "/var/lib/shop/orders.db",
        "/mnt/dr/shop/orders.db",
        "\"/mnt/dr/shop/orders.db\"",
        &["of source \"orders\" lies inside"],
    );
    refused(
        "/var/log/shop/*.log",
        "/mnt/dr/shop/*.log",
        "\"/mnt/dr/shop/*.log\"",
        &["of source \"logs\" is the DR site"],
    );
    refused("/var/log/shop/*.log", "/mnt/dr/**/*.log", "\"/mnt/dr/shop\"", &["inside \"/mnt/dr/**/*.log\""]);
    refused("/mnt/cold/shop", "/srv/shop", "\"/srv/shop\" }", &["the archive \"/srv/shop\" lies inside"]);
}

#[test]
fn providers_and_kinds() {
    refused(
        "kind = \"sqlite\"\npath = \"/var/lib/shop/orders.db\"",
        "kind = \"rds\"\ninstance = \"x\"",
        "\"rds\"",
        &["needs a primary site on AWS"],
    );
    refused(
        "to = \"directory\", path = \"/mnt/cold/shop\"",
        "to = \"glacier\", vault = \"v\"",
        "\"glacier\"",
        &["neither site is on AWS"],
    );
    refused(
        "beacon = { newest_entry = true }",
        "beacon = { sql = \"select 1\" }",
        "sql",
        &["cannot be read from a source of kind \"logs\""],
    );
    refused(
        "beacon = { sql = \"select max(at) from orders\" }",
        "beacon = { newest_entry = true }",
        "newest_entry",
        &["{ sql = \"...\" }"],
    );
    refused("beacon = { newest_entry = true }", "beacon = { }", "{ }", &["a beacon does not say what to do"]);
    refused("[primary]\nprovider = \"local\"", "[primary]\nprovider = \"azure\"", "\"azure\"", &["one of local, aws"]);
}

#[test]
fn a_cold_place_names_what_it_needs() {
    let aws = |to: &str| {
        with("[primary]\nprovider = \"local\"", "[primary]\nprovider = \"aws\"\nregion = \"us-east-1\"")
            .replace("to = \"directory\", path = \"/mnt/cold/shop\"", to)
    };
    for (to, told) in [
        ("to = \"glacier\"", "\"vault\" is missing in archive with to = \"glacier\""),
        ("to = \"s3\"", "\"class\" is missing"),
        ("to = \"s3\", class = \"COLD\"", "one of GLACIER, DEEP_ARCHIVE, GLACIER_IR"),
        ("to = \"directory\"", "\"path\" is missing"),
    ] {
        let found = errors(&aws(to));
        assert!(found.errors.len() == 1 && found.to_string().contains(told), "{found}");
    }
}

#[test]
fn an_rds_source_names_one_instance_or_cluster() {
    let aws = |keys: &str| {
        with("[primary]\nprovider = \"local\"", "[primary]\nprovider = \"aws\"\nregion = \"us-east-1\"")
            .replace("kind = \"sqlite\"\npath = \"/var/lib/shop/orders.db\"", &format!("kind = \"rds\"\n{keys}"))
    };
    assert!(lifeboat::policy::parse("shop.toml", &aws("cluster = \"c\"")).is_ok());
    assert!(errors(&aws("")).to_string().contains("names no RDS instance or cluster"));
    assert!(
        errors(&aws("instance = \"i\"\ncluster = \"c\"")).to_string().contains("both \"instance\" and \"cluster\"")
    );
}

/// Nothing of the secret may come back, in whatever form the message is printed.
#[track_caller]
fn hidden(from: &str, to: &str) {
    let found = errors(&with(from, to));
    for told in [found.to_string(), format!("{found:?}"), format!("{:?}", found.errors)] {
        assert!(!told.contains("hunter2"), "the secret is shown:\n{told}");
    }
    assert!(found.to_string().contains("***"), "its place is shown:\n{found}");
}

#[test]
fn secrets_written_as_values_are_refused_and_not_shown() {
    let password = "repository_password = \"file:/etc/lifeboat/shop.password\"";
    hidden(password, "repository_password = \"hunter2\"");
    hidden(password, "repository_password = [\"hunter2\"]");
    hidden(password, "repository_pasword = \"hunter2\"");
    hidden(password, "repository_password = \"env:hunter2!\"");
    hidden(password, "repository_password = \"hunter2");
    hidden(password, "repository_password = hunter2");
    hidden(password, "repository_password = \"\"\"\nhunter2\nhunter2\"\"\" x");
    hidden(password, "repository_password = \"\"\"\nhunter2\"\"\"");
    hidden("dsn = \"env:ACCOUNTS_DSN\"", "dsn = \"postgres://shop:hunter2@db/shop\"");
    hidden("exclude = [\"**/tmp/**\"]", "password = \"hunter2\"");
    hidden("exclude = [\"**/tmp/**\"]", "api_token = { value = \"hunter2\" }");
    hidden("smtp = \"env:SMTP_URL\"", "smtp = \"smtps://me:hunter2@mail\", weekli = \"mon 08:00\"");
    hidden("webhook = \"env:ALERT_WEBHOOK\"", "webhook = \"https://hooks.example/hunter2\"");
    hidden("http://localhost:8080/", "http://me:hunter2@localhost/");
}
