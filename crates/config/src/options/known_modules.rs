//! The modules of Momentum that Posthaste does not have yet, with the options their pages list.
//!
//! A file that names one loads with a warning. Options that are not listed are no errors there either: what the original
//! reads is not known completely.

use super::*;
use crate::schema::{Naming, ScopeClass};
use crate::scopes::*;

const M: Scopes = MODULE;
const MP: Scopes = MODULE.or(MODULE_PART);

const fn module(name: &'static str, options: &'static [&'static OptionDecl], doc: &'static str) -> ScopeClass {
    ScopeClass {
        name,
        kind: ScopeKind::Module,
        naming: Naming::Optional,
        parts: &[],
        options,
        status: Status::Missing,
        doc,
    }
}

const fn part(name: &'static str, options: &'static [&'static OptionDecl], doc: &'static str) -> ScopeClass {
    ScopeClass { kind: ScopeKind::ModulePart, naming: Naming::Named, ..module(name, options, doc) }
}

/// Signing options that the module and its domains share.
static SIGN: &[&OptionDecl] = &[
    &text("Base_Domain", "", MP).missing().doc("The signing domain to write instead of the responsible one."),
    &word("Header_Canon", "simple", &["simple", "relaxed"], MP).missing().doc("Canonical form of the header."),
    &word("Body_Canon", "simple", &["simple", "relaxed"], MP).missing().doc("Canonical form of the body."),
    &word("Canon", "nofws", &["nofws", "simple", "relaxed"], MP).missing().doc("Canonical form."),
    &text("Digest", "rsa-sha256", MP).missing().doc("Algorithm of the signature."),
    &boolean("Body_Length_Limit", "false", MP).missing().doc("Writes the length of the body into the signature."),
    &boolean("Copy_Headers", "false", MP).missing().doc("Copies the signed fields into the signature."),
    &any("HeaderList", MP).missing().doc("Fields to sign."),
    &any("Oversign_HeaderList", MP).missing().doc("Fields to name once more than they occur."),
    &any("Skip_HeaderList", MP).missing().doc("Fields never to sign."),
    &optional("Identity", MP).missing().doc("Identity to write into the signature."),
    &optional("Key", MP).missing().doc("File of the private key; `%{d}` and `%{s}` are replaced."),
    &optional("Selector", MP).missing().doc("Selector of the key."),
    &optional("Sign_Condition", MP).missing().doc("Context variable that must exist for a message to be signed."),
    &int("Lifetime", "0", MP).missing().doc("Hours for which a signature is good; 0 is no limit."),
    &int("KeyCache_Size", "2048", MP).missing().doc("Keys that are kept."),
    &int("Key_Cache_Size", "2048", MP).missing().doc("Keys that are kept."),
    &interval("Pos_KeyCache_TTL", "300", MP).missing().doc("How long a key is kept."),
    &interval("Neg_KeyCache_TTL", "3600", MP).missing().doc("How long a missing key is remembered."),
    &boolean("Testing", "false", MP).missing().doc("Logs each decision."),
    &boolean("Allow_SHA1", "false", MP).missing().ours().doc("Accepts signatures made with SHA-1."),
];
static DKIM_DOMAIN: ScopeClass = part("DKIM_Domain", SIGN, "Signing options of one domain.");
static DK_DOMAIN: ScopeClass = part("DK_Domain", SIGN, "Signing options of one domain.");
static OPENDKIM: ScopeClass = ScopeClass { parts: &[&DKIM_DOMAIN], ..module("OpenDKIM", SIGN, "DKIM signatures.") };
static DKIM_SIGN: ScopeClass = ScopeClass {
    parts: &[&DK_DOMAIN, &DKIM_DOMAIN],
    ..module("DKIM_Sign", SIGN, "DKIM signatures, the older module.")
};
static DK_SIGN: ScopeClass = ScopeClass { parts: &[&DK_DOMAIN], ..module("DK_Sign", SIGN, "DomainKeys signatures.") };
static DKIM_VALIDATE: ScopeClass = module("DKIM_Validate", &[], "Verifies DKIM signatures.");
static DK_VALIDATE: ScopeClass = module("DK_Validate", &[], "Verifies DomainKeys signatures.");

/// Options of the two sender checks.
static SPF: &[&OptionDecl] = &[
    &optional("Context_Variable", M).missing().doc("Context variable for the result."),
    &optional("Context_PRA_Variable", M).missing().doc("Context variable for the result of the PRA check."),
    &text("Default_Rule", "?all", M).missing().doc("Rule for domains without a record."),
    &text("Default_PRA_Rule", "?all", M).missing().doc("Rule of the PRA check for domains without a record."),
    &boolean("Add_Headers", "true", M).missing().doc("Adds Received-SPF."),
    &boolean("Add_Authentication_Results", "true", M).missing().doc("Adds to Authentication-Results."),
    &boolean("Delay_Check", "false", M).missing().doc("Checks at the first RCPT instead of at MAIL."),
    &text("Fail_Fallback_String", "", M).accepted().doc("Reply text; replies are a matter of policy."),
    &text("SoftFail_Fallback_String", "", M).accepted().doc("Reply text; replies are a matter of policy."),
    &text("NXDomain_Override_String", "", M).accepted().doc("Reply text; replies are a matter of policy."),
    &text("TempError_Override_String", "", M).accepted().doc("Reply text; replies are a matter of policy."),
    &int("Pass_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
    &int("Fail_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
    &int("SoftFail_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
    &int("NXDomain_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
    &int("Unknown_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
    &int("PermError_Code", "250", M).accepted().doc("Reply code; replies are a matter of policy."),
];
static SPF_V1: ScopeClass = module("SPF_V1", SPF, "SPF checks.");
static SENDERID: ScopeClass = module("SenderID", SPF, "Sender ID checks.");

/// Options of the scanning engines.
static ENGINE: &[&OptionDecl] = &[
    &optional("Daemon", MP).missing().doc("Address of the scanner."),
    &optional("Protocol", MP).missing().ours().doc("Protocol of the scanner."),
    &word("Action", "pass", &["pass", "reject"], MP).missing().doc("What becomes of an infected message."),
    &optional("Context_Variable", MP).missing().doc("Context variable for the result."),
    &text("Skip_Context_Variable", "skip_virus_check", MP).missing().doc("Context variable that spares a message."),
    &int("Error_Code", "451", MP).missing().doc("Reply code when the scan fails."),
    &interval("Timeout", "10", MP).missing().doc("Time for a scan."),
    &int("Max_Concurrency", "0", MP).missing().doc("Scans at once; 0 is no limit."),
    &int("Cache_Size", "1000", MP).missing().doc("Results that are kept."),
    &boolean("MIME_Decompose", "0", MP).missing().doc("Scans the parts one by one."),
    &boolean("Paranoid", "0", MP).missing().doc("Takes doubtful content for infected."),
    &optional("File_Base", MP).accepted().doc("Folder for copies; none are made here."),
    &optional("Pool", MP).accepted().doc("Thread pool; nothing to choose here."),
    &boolean("Use_Wire_Rep", "true", MP).missing().doc("Scans the message as it came."),
    &optional("Server", MP).missing().doc("Address of the scanner."),
    &optional("Host", MP).missing().doc("Address of the scanner."),
    &int("Port", "0", MP).missing().doc("Port of the scanner."),
    &size("Max_Size", "0", MP).missing().doc("Octets of a message that are scanned."),
];
static CLAMAV_ENGINE: ScopeClass =
    ScopeClass { naming: Naming::Optional, ..part("ClamAV", ENGINE, "ClamAV as an engine.") };
static CSAPI_ENGINE: ScopeClass =
    ScopeClass { naming: Naming::Optional, ..part("CSAPI", ENGINE, "Symantec as an engine.") };
static ICAP_ENGINE: ScopeClass =
    ScopeClass { naming: Naming::Optional, ..part("ICAP", ENGINE, "An ICAP server as an engine.") };
static EICAR_ENGINE: ScopeClass = ScopeClass { naming: Naming::Optional, ..part("EICAR", ENGINE, "The test engine.") };
static ANTIVIRUS: ScopeClass = ScopeClass {
    parts: &[&CLAMAV_ENGINE, &CSAPI_ENGINE, &ICAP_ENGINE, &EICAR_ENGINE],
    ..module("Antivirus", &[], "Virus scanning.")
};

/// Options of the loggers of push services.
static PUSH_LOGGER: &[&OptionDecl] = &[
    &optional("LogFile", M).missing().doc("File of the log."),
    &mode("LogMode", "0644", M).missing().doc("Mode of the file."),
    &interval("Heartbeat", "60", M).missing().doc("Pause between heartbeat lines."),
    &boolean("Log_Delivery", "true", M).missing().doc("Writes deliveries."),
    &boolean("Log_PermFail", "true", M).missing().doc("Writes permanent failures."),
    &boolean("Log_TempFail", "true", M).missing().doc("Writes transient failures."),
    &optional("Log_Delivery_Format", M).missing().doc("Format of a delivery."),
    &optional("Log_PermFail_Format", M).missing().doc("Format of a permanent failure."),
    &optional("Log_TempFail_Format", M).missing().doc("Format of a transient failure."),
    &optional("Log_Heartbeat_Format", M).missing().doc("Format of a heartbeat."),
    &int("Concurrency", "1", M).accepted().doc("Threads that write; nothing to choose here."),
    &optional("Thread_Pool", M).accepted().doc("Thread pool; nothing to choose here."),
    &optional("Namespace", M).missing().doc("Where macros are looked for."),
];
static APN_LOGGER: ScopeClass = module("APN_Logger", PUSH_LOGGER, "Log of deliveries to Apple's push service.");
static GCM_LOGGER: ScopeClass = module("GCM_Logger", PUSH_LOGGER, "Log of deliveries to Google's push service.");

/// The thresholds of one sweep rule.
static SWEEP: &[&OptionDecl] = &[
    &any("Codes", MP).missing().doc("Bounce classes and complaint types that count."),
    &text("Low_Threshold", "5", MP).missing().doc("Percentage for the mild action."),
    &any("Low_Action", MP).missing().doc("The mild action."),
    &text("High_Threshold", "10", MP).missing().doc("Percentage for the strong action."),
    &any("High_Action", MP).missing().doc("The strong action."),
];
pub(crate) static ADAPTIVE_SWEEP_RULE: ScopeClass =
    part("Adaptive_Sweep_Rule", SWEEP, "Thresholds of bounce and complaint rates, and what follows.");
pub(crate) const SWEEP_PARTS: &[&ScopeClass] = &[&ADAPTIVE_SWEEP_RULE];
static ADAPTIVE: ScopeClass = module(
    "Adaptive",
    &[
        &boolean("Enable_Logging", "true", M).missing().doc("Writes what is adapted."),
        &text("Log_Base", "/var/log/ecelerity/adaptive", M).missing().doc("Folder of these logs."),
        &boolean("Split_Logs_By_Binding", "false", M).missing().doc("A log for each binding."),
        &text("Operational_Log_Level", "NOTICE", M).missing().doc("Level from which is written."),
        &boolean("Enable_JLog", "false", M).missing().doc("Writes a jlog too."),
        &optional("JLog_File", M).missing().doc("Folder of that jlog."),
        &interval("Bounce_Sweep_Interval", "3600", M).missing().doc("Pause between looks at the rates; 0 never looks."),
        &interval("Suspend_Sweep_Interval", "60", M).missing().doc("Pause between looks at suspensions."),
        &boolean("Enable_Bounce_Stats", "true", M).missing().doc("Counts bounces."),
        &boolean("Enable_FBL_Stats", "true", M).missing().doc("Counts complaints."),
        &boolean("Force_Max_Binding_Age", "false", M).missing().doc("Treats every binding as old."),
        &boolean("Read_Cache_After_Suspension", "false", M).missing().doc("Keeps adapted values over a suspension."),
        &int("Adaptive_Cache_Size", "1048576", M).accepted().doc("Nothing to choose here."),
        &interval("Adaptive_Cache_TTL", "43200", M).accepted().doc("Nothing to choose here."),
        &int("Binding_Domain_Cache_Size", "999999", M).accepted().doc("Nothing to choose here."),
        &interval("Binding_Domain_Cache_Max_TTL", "86400", M).accepted().doc("Nothing to choose here."),
        &interval("Adaptive_Stats_Period", "3600", M).accepted().doc("Nothing to choose here."),
        &any("Data_Store", M).accepted().doc("Nothing to choose here."),
        &interval("Data_Store_Sync_Interval", "3600", M).accepted().doc("Nothing to choose here."),
        &any("Default_Bounce_Rule", M).missing().doc("Rule where none applies."),
        &any("Default_FBL_Rule", M).missing().doc("Rule where none applies."),
        &any("FBL_Stats_Monitor", M).missing().doc("Window of the complaint rates."),
    ],
    "Adapts delivery to what receivers answer.",
);
static BACKSTORE_RIAK: ScopeClass = module("Adaptive_Backstore_Riak", &[], "Store of adaptive delivery.");
static BACKSTORE_LEVELDB: ScopeClass = module("Adaptive_Backstore_LevelDB", &[], "Store of adaptive delivery.");

static FBL: ScopeClass = module(
    "FBL",
    &[
        &boolean("Auto_Log", "false", M).missing().doc("Reads complaints and writes the log of them."),
        &text("Log_Path", "/var/log/ecelerity/fbllog.ec", M).missing().doc("File of that log."),
        &patterns("Addresses", M).missing().doc("Addresses to which complaints come."),
        &text("Header_Name", "X-MSFBL", M).missing().doc("Field that outbound mail carries."),
        &optional("User_String", M).missing().doc("Text of the site in that field."),
        &word("Message_Disposition", "blackhole", &["blackhole", "pass"], M)
            .missing()
            .doc("What becomes of a complaint."),
        &optional("Condition", M).missing().doc("Context variable that must exist for the field to be added."),
        &optional("HMAC_Key", M).missing().ours().doc("Key that signs the field."),
        &mode("Log_Mode", "0644", M).missing().doc("Mode of the log."),
        &interval("Heartbeat", "60", M).missing().doc("Pause between heartbeat lines."),
    ],
    "Feedback loops.",
);
static INBOUND_AUDIT: ScopeClass = module(
    "Inbound_Audit",
    &[
        &list("Monitors", "( )", M).missing().doc("Windows: `\"seconds,count\"`."),
        &text("Log_Dir", "/var/log/ecelerity/audit_series_logs", M).missing().doc("Folder of closed windows."),
        &text("Serialize_Dir", "/var/log/ecelerity/audit_series_persist", M).missing().doc("Folder of the state."),
        &interval("Maintenance_Interval", "300", M).missing().doc("Pause between savings."),
        &int("Max_Items", "1000000", M).missing().ours().doc("Keys of one series."),
        &int("Counter_Max", "100000", M).missing().ours().doc("Counters."),
    ],
    "Counts what clients do.",
);
static OVERRIDE: &[&OptionDecl] = &[
    &optional("User_SMTP_Classification_Override", M).missing().doc("Rules of the site for replies."),
    &optional("User_MDN_Classification_Override", M).missing().doc("Rules of the site for reports."),
    &optional("System_SMTP_Classification_Override", M).missing().doc("Rules of the vendor for replies."),
    &optional("System_MDN_Classification_Override", M).missing().doc("Rules of the vendor for reports."),
    &interval("Refresh", "300", M).missing().doc("Pause between looks at the files."),
    &boolean("Enable_System_Updates", "1", M).missing().doc("Reads the rules of the vendor."),
    &any("Custom_Classes", M).missing().doc("Further classes: `[ 99 = \"name\" ]`."),
];
static BOUNCE_CLASSIFIER_OVERRIDE: ScopeClass =
    module("Bounce_Classifier_Override", OVERRIDE, "Further rules for bounces.");
static BOUNCE_CLASSIFIER: ScopeClass = module("Bounce_Classifier", OVERRIDE, "Older name of the same.");
static HTTP_CLIENT: ScopeClass = module(
    "HTTP_Client",
    &[
        &interval("Max_Time", "300", M).missing().ours().doc("Time for a request where the policy sets none."),
        &size("Max_Response_Size", "64m", M).missing().ours().doc("Largest answer."),
        &optional("CA_File", M).missing().ours().doc("Authorities of servers."),
        &interval("Connect_Timeout", "10", M).missing().ours().doc("Time for connecting."),
        &int("Max_Connections_Per_Host", "64", M).missing().ours().doc("Connections to one host."),
    ],
    "HTTP requests of policies; not in Momentum's list of modules.",
);
static MSTORE: ScopeClass = module(
    "MStore",
    &[
        &list("Servers", "( )", M).missing().doc("Servers of the store."),
        &interval("Retention", "1209600", M).missing().doc("How long messages are kept."),
    ],
    "Store of messages.",
);
static CURFEW: ScopeClass = module(
    "Curfew",
    &[
        &optional("Schedule_File", M).missing().doc("File of the schedule."),
        &text("Timezone", "UTC", M).missing().doc("Time zone of the schedule."),
    ],
    "Hours without deliveries.",
);

/// A known name without known options.
macro_rules! names {
    ($($id:ident $name:literal $doc:literal;)*) => {
        $(static $id: ScopeClass = module($name, &[], $doc);)*
        /// Those of which only the name is known.
        pub(crate) const NAMES: &[&ScopeClass] = &[$(&$id),*];
    };
}

names! {
    AC_AUTH "AC_Auth" "Authentication by policy.";
    ALERTING "Alerting" "Mails to the operator.";
    ALIAS "Alias" "Expansion of aliases.";
    APN "APN" "Delivery to Apple's push service.";
    AS_LOGGER "AS_Logger" "Log of audit series.";
    AUTH_DS "Auth_DS" "Authentication by datasource.";
    AUTH_RADIUS "Auth_Radius" "Authentication by RADIUS.";
    AV_FSECURE "AV_FSecure" "F-Secure.";
    BEIK "BEIK" "Symantec Brightmail in process.";
    BIND_ADDRESS_SECONDARY "Bind_Address_Secondary" "A second source address.";
    BRIGHTMAIL "Brightmail" "Symantec Brightmail.";
    BZIP2IO "BZip2IO" "Compression.";
    CASSANDRA_CLIENT "Cassandra_Client" "A database.";
    CIDRDB "CIDRDB" "Tables of networks.";
    CLAMAV "ClamAV" "ClamAV.";
    CLOUDMARK "Cloudmark" "Cloudmark.";
    COMMTOUCH_CTASD "Commtouch_CTASD" "Commtouch.";
    COMPRESS_SPOOL "Compress_Spool" "Compression of the spool.";
    CONNTROL "Conntrol" "Limits of connections.";
    CSAPI "CSAPI" "Symantec antivirus.";
    DANE "DANE" "DANE.";
    DISCLAIMER "Disclaimer" "Texts below messages.";
    DMARC "DMARC" "DMARC checks; not in Momentum.";
    DNSBUF "DNSBuf" "Buffers of DNS sockets.";
    DS_CDB "DS_CDB" "Datasource driver.";
    DS_CORE "DS_Core" "Datasources.";
    DS_CSV "DS_CSV" "Datasource driver.";
    DS_LDAP "DS_LDAP" "Datasource driver.";
    DS_MYSQL "DS_MySQL" "Datasource driver.";
    DS_ODBC "DS_ODBC" "Datasource driver.";
    DS_PGSQL "DS_PgSQL" "Datasource driver.";
    DS_SQLITE "DS_SQLite" "Datasource driver.";
    ELEVEN "Eleven" "Eleven eXpurgate.";
    ENGAGE_TRACKER "Engage_Tracker" "Tracking of clicks.";
    ENGAGEMENT_TRACKER "Engagement_Tracker" "Tracking of clicks.";
    EVENT_HYDRANT "Event_Hydrant" "Events for a message bus.";
    EXIM_LOGGER "Exim_Logger" "Logs like Exim's.";
    FINGERPRINT "Fingerprint" "Guesses of client systems.";
    GCM "GCM" "Delivery to Google's push service.";
    GENERIC_DELIVERY "Generic_Delivery" "Deliveries over other protocols.";
    GZIPIO "GZipIO" "Compression.";
    HA_PROXY_CLIENT "HA_Proxy_Client" "Deliveries through a proxy.";
    HTTP_LOGGER "HTTP_Logger" "Log of HTTP requests.";
    HTTPCLNT "HTTPClnt" "Deliveries over HTTP.";
    HTTPIO "HTTPIO" "Files over HTTP.";
    HTTPSRV "HTTPSrv" "The HTTP service for policies.";
    ICU "ICU" "Charsets.";
    ILF_LOGGER "ILF_Logger" "Counts for licences.";
    IMAGEANALYZER "ImageAnalyzer" "Checks of images.";
    IPV6_LOOKUP "IPv6_Lookup" "Addresses of both families.";
    JLOG "JLog" "Logs in the jlog format.";
    LIVE_BOUNCE_UPDATES "Live_Bounce_Updates" "Updates of bounce rules.";
    MAIL_LOOP "Mail_Loop" "Detection of loops.";
    MAILDIR "Maildir" "Delivery to maildirs.";
    MM7 "MM7" "Delivery of multimedia messages.";
    MM7_SERV "MM7_Serv" "Reception of multimedia messages.";
    MMS_BOUNCE_LOGGER "MMS_Bounce_Logger" "Log of multimedia messages.";
    MMS_LOGGER "MMS_Logger" "Log of multimedia messages.";
    MSG_GEN "Msg_Gen" "Messages from templates.";
    MSGC_CLIENT "MSGC_Client" "Cluster messaging.";
    MSGC_SERVER "MSGC_Server" "Cluster messaging.";
    MXIP "MXIP" "Addresses in MX records.";
    OPENARC "OpenARC" "ARC.";
    OUTBOUND_AUDIT "Outbound_Audit" "Counts what receivers do.";
    OUTBOUND_SMTP_AUTH "Outbound_SMTP_Auth" "Logins at the next hop.";
    OUTBOUND_SMTP_AUTH_V0 "Outbound_SMTP_Auth_V0" "Logins at the next hop.";
    PE2_LOGGER "PE2_Logger" "Logs like PowerMTA's.";
    PERSIST_IO "Persist_IO" "Copies of remote files.";
    PIPE_IO "Pipe_IO" "Writing to programs.";
    PIPE_TRANSPORT "Pipe_Transport" "Delivery to programs.";
    POSTFIX_LOGGER "Postfix_Logger" "Logs like Postfix's.";
    RECEPTION_TIMING "Reception_Timing" "Times of receptions.";
    RESPONSE_TRANSCODE "Response_Transcode" "Repairs of replies.";
    RESTINJECTOR "RestInjector" "Injection over HTTP.";
    RSPAMD "Rspamd" "Rspamd; not in Momentum.";
    SCHED "Sched" "Scheduled commands.";
    SECURECREDS "SecureCreds" "Encrypted passwords.";
    SEEDLIST "Seedlist" "Test recipients.";
    SENDMAIL_LOGGER "Sendmail_Logger" "Logs like Sendmail's.";
    SIEVE "Sieve" "Policy in Sieve.";
    SIEVELIB "SieveLib" "Functions for Sieve.";
    SMPP "SMPP" "Delivery of short messages.";
    SMPP_BOUNCE_LOGGER "SMPP_Bounce_Logger" "Log of short messages.";
    SMPP_LOGGER "SMPP_Logger" "Log of short messages.";
    SMTP_AUTH_PROXY "SMTP_Auth_Proxy" "Logins checked at another server.";
    SMTP_CBV "SMTP_CBV" "Checks of senders by calling back.";
    SMTP_RCPTTO_PROXY "SMTP_RcptTo_Proxy" "Checks of recipients at another server.";
    SMTPAPI "SMTPAPI" "A field with instructions in messages.";
    SPAMASSASSIN "SpamAssassin" "SpamAssassin.";
    SPF_MACROS "SPF_Macros" "Macros of SPF.";
    STATIC_ROUTES "Static_Routes" "Routes in a file.";
    STATS_PRODUCER "Stats_Producer" "Statistics.";
    SUBSTITUTION_ENGINE "Substitution_Engine" "Templates.";
    SUPPRESS_SPOOL "Suppress_Spool" "Would keep mail in memory only; not honoured.";
    SYSLOG_IO "Syslog_IO" "Logs to syslog.";
    SYSLOGIO "SyslogIO" "Logs to syslog.";
    TIMER "Timer" "Scheduled policy.";
    URL_RIPPER "URL_Ripper" "Links in messages.";
    XMPP_LOGGER "XMPP_Logger" "Log of XMPP.";
}

/// Those with options.
pub(crate) const LISTED: &[&ScopeClass] = &[
    &ADAPTIVE,
    &BACKSTORE_RIAK,
    &BACKSTORE_LEVELDB,
    &ANTIVIRUS,
    &APN_LOGGER,
    &BOUNCE_CLASSIFIER,
    &BOUNCE_CLASSIFIER_OVERRIDE,
    &CURFEW,
    &DK_SIGN,
    &DK_VALIDATE,
    &DKIM_SIGN,
    &DKIM_VALIDATE,
    &FBL,
    &GCM_LOGGER,
    &HTTP_CLIENT,
    &INBOUND_AUDIT,
    &MSTORE,
    &OPENDKIM,
    &SENDERID,
    &SPF_V1,
];
