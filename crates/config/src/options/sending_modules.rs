//! Options that modules have in the sending scopes; none of these modules is there yet.

use super::*;
use crate::scopes::*;

const GD: Scopes = G.or(D);
const BL: Scopes = B.or(LISTENERS);

pub(crate) static DECLS: &[&OptionDecl] = &[
    &boolean("Adaptive_Enabled", "false", S4).missing().doc("Adapts delivery to what receivers answer."),
    &word("Adaptive_Scope", "auto", &["auto", "local", "global"], S4)
        .missing()
        .doc("Whether state is kept here or in the cluster."),
    &interval("Adaptive_Adjustment_Interval", "60", S4)
        .missing()
        .doc("Shortest time between two adjustments downwards."),
    &interval("Adaptive_Positive_Adjustment_Interval", "3600", S4)
        .missing()
        .doc("Shortest time between two adjustments upwards."),
    &int("Adaptive_Attempt_Threshold", "2000", S4).missing().doc("Attempts below which rates say nothing."),
    &int("Adaptive_FBL_Volume_Threshold", "20000", S4)
        .missing()
        .doc("Deliveries below which complaint rates say nothing."),
    &interval("Adaptive_Default_Suspension", "\"4 hours\"", S4).missing().doc("Length of a suspension."),
    &boolean("Adaptive_Default_Suspension_Enabled", "false", S4)
        .missing()
        .doc("Suspends where too many messages fail."),
    &text("Adaptive_Rejection_Rate_Suspension_Percentage", "20", S4)
        .missing()
        .doc("Percentage of failures that suspends."),
    &interval("Adaptive_Retry_Fuzz", "4096", S4).missing().doc("Spreads the mail over this time after a suspension."),
    &optional("Adaptive_Alert_Email_Destination", S4).missing().doc("Where mails about adjustments go."),
    &optional("Adaptive_Alert_Email_Sender", S4).missing().doc("Sender of mails about adjustments."),
    &any("Adaptive_Notification_Events", S4).missing().doc("Adjustments that are told by mail."),
    &interval("Adaptive_Notification_Interval", "3600", S4).missing().doc("Shortest time between two such mails."),
    &boolean("Adaptive_Sweep_Rule_Enabled", "1", S4).missing().doc("Whether the sweep rules of this scope count."),
    &any("Adaptive_Manage_Options", S4).missing().doc("Further options to adapt."),
    &any("Adaptive_Unmanage_Options", S4).missing().doc("Options not to adapt."),
    &any("Adaptive_Body_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_EHLO_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Idle_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_MAILFROM_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_RCPTTO_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_RSET_Timeout", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Deliveries_Per_Connection", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Outbound_Connections", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Recipients_Per_Batch", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Recipients_Per_Connection", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Resident_Active_Queue", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Retries", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Max_Retry_Interval", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Retry_Interval", S4).missing().doc("Bounds for the adapted value."),
    &any("Adaptive_Outbound_Throttle_Messages", S4).missing().doc("Bounds for the adapted value."),
    &interval("APN_Expiry", "86400", S4).missing().doc("How long Apple's push service keeps a notification."),
    &optional("APN_Key_File", S4).missing().ours().doc("Private key for Apple's push service."),
    &optional("APN_Key_ID", S4).missing().ours().doc("Name of that key."),
    &optional("APN_Team_ID", S4).missing().ours().doc("Owner of that key."),
    &optional("APN_Topic", S4).missing().ours().doc("Name of the app."),
    &optional("GCM_Authorization_Token_ID", S4).missing().doc("Key for Google's push service."),
    &optional("GCM_Application_ID", S4).missing().doc("Name of the app."),
    &range("GCM_TTL", "-1", -1, i32::MAX as i64, S4)
        .missing()
        .doc("How long Google's push service keeps a notification; -1 leaves it out."),
    &boolean("GCM_Delay_While_Idle", "false", S4).missing().doc("Waits until the device is active."),
    &boolean("GCM_Dry_Run", "false", S4).missing().doc("Sends nothing to the device."),
    &optional("GCM_Service_Account_File", S4).missing().ours().doc("Account for Google's push service."),
    &optional("GCM_Project_ID", S4).missing().ours().doc("Project for Google's push service."),
    &text("GCM_Protocol", "auto", S4).missing().ours().doc("Version of Google's protocol."),
    &boolean("OpenDKIM_Sign", "true", S4).missing().doc("Signs with the module OpenDKIM."),
    &boolean("DKIM", "enabled", S4).missing().doc("Signs with the module DKIM_Sign."),
    &boolean("DomainKeys", "enabled", S4).missing().doc("Signs with the module DK_Sign."),
    &boolean("Enable_FBL_Header_Insertion", "false", S4).missing().doc("Adds the field of the module FBL."),
    &text("Signing_Stats", "all", G).missing().doc("Which signing statistics are kept."),
    &boolean("Enable_MTA_STS", "false", S4).missing().doc("Applies MTA-STS policies."),
    &boolean("Use_MTA_STS", "false", GD).missing().doc("Fetches MTA-STS policies."),
    &text("MTA_STS_Policy_Store", "/var/spool/ecelerity/mtasts", G).missing().doc("Folder of MTA-STS policies."),
    &int("MTA_STS_DNS_CNAME_Max_Depth", "5", G).missing().doc("CNAMEs that are followed for MTA-STS."),
    &interval("TLSA_Expire_Interval", "3600", G).missing().doc("Pause between removals of stale TLSA records."),
    &optional("DANE", S4).missing().doc("DANE for outbound TLS (RFC 7672)."),
    &any("Response_Transcode_Pattern", S4).missing().doc("Pattern of a reply to replace."),
    &any("Response_Transcode_Replace", S4).missing().doc("What it is replaced with."),
    &interval("ECStream_Timeout", "600", S4).missing().doc("Time for an ecstream connection to be established."),
    &optional("Enable_Duravip", BL).missing().doc("A source address that moves between nodes."),
    &optional("Duravip_Preference", BL).missing().doc("Nodes that such an address prefers."),
    &optional("XMPP_Dialback_Secret", D).missing().doc("Secret for XMPP."),
    &optional("XMPP_Role", D).missing().doc("Role of the domain in XMPP."),
    &optional("SMPP_SMSC_Server", S4).missing().doc("Server for short messages."),
    &int("SMPP_SMSC_Port", "2775", S4).missing().doc("Port of that server."),
    &optional("SMPP_SMSC_System_ID", S4).missing().doc("Name to log in with."),
    &optional("SMPP_SMSC_Password", S4).missing().doc("Password to log in with."),
    &optional("SMPP_SMSC_System_Type", S4).missing().doc("Type of the system to tell."),
    &text("SMPP_Bind_Type", "transceiver", S4).missing().doc("Direction of the connection."),
    &int("SMPP_Command_Window_Size", "10", S4).missing().doc("Requests without answer at once."),
    &interval("SMPP_Enquire_Link_Timer", "60", S4).missing().doc("Pause between signs of life."),
    &interval("SMPP_Inactivity_Timer", "300", S4).missing().doc("Idle connections are closed after this time."),
    &interval("SMPP_Response_Timer", "300", S4).missing().doc("Time for an answer."),
    &optional("SMPP_ESME_Address", S4).missing().doc("Our address."),
    &any("SMPP_Registered_Delivery", S4).missing().doc("Receipts to ask for."),
    &int("SMPP_SMS_Segment_Size", "160", S4).missing().doc("Length of a segment."),
    &any("SMPP_SMS_Data_Coding", S4).missing().doc("Coding of the text."),
    &text("SMPP_Submit_Response_Message_ID_Format", "string", S4).missing().doc("Form of message numbers."),
    &text("SMPP_Delivery_Receipt_Message_ID_Format", "string", S4)
        .missing()
        .doc("Form of message numbers in receipts."),
    &boolean("MM7_MStore_Bucket_Use_Shortcode", "true", G).missing().doc("Names buckets by the shortcode."),
    &boolean("MM7_Delivery_Report", "false", S4).missing().doc("Asks for reports."),
    &boolean("MM7_MStore_Save_Message", "true", S4).missing().doc("Keeps messages until the report."),
];
