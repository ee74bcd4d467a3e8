// What wakes whom. The app says what is wrong in a log record with the event "alert"; these rules pass it on, and watch
// for what the app cannot say because it does not run. A shard that stopped, a KEK rotation that failed or cannot go on, a
// consumer that lags, a KEK version that is missed, an audit trail that contradicts its checkpoints and an evidence copy that
// differs are records "alert", severity critical.

param prefix string
param location string
param workspaceId string
param actionGroupId string
param topicIds string[]

var alertRecords = '''
AppTraces
| where SeverityLevel >= 3
| extend record = parse_json(Message)
| where tostring(record.event) == "alert" and tostring(record.severity) == "{0}"
| project TimeGenerated, alert = tostring(record.alert), what = tostring(record.what), subject = tostring(record.subject),
          owner = tostring(record.owner), next = tostring(record.next), runbook = tostring(record.runbook)
'''

// severity: 0 is critical, 2 a warning. dimension: one notification for each value of that column.
var rules = [
  {
    name: 'critical'
    what: 'Key rotation needs a person now. docs/runbooks says what to do.'
    severity: 0
    query: format(alertRecords, 'critical')
    frequency: 'PT5M'
    window: 'PT15M'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'alert'
  }
  {
    name: 'warning'
    what: 'Key rotation needs a person on the next working day.'
    severity: 2
    query: format(alertRecords, 'warning')
    frequency: 'PT15M'
    window: 'PT30M'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'alert'
  }
  {
    // A worker empties these queues within seconds; what stays longer has raised no alert of its own.
    name: 'poison-queue'
    what: 'Messages stay on a poison queue: the app does not run, or cannot write its tables.'
    severity: 0
    query: '''
StorageQueueLogs
| where OperationName in ("PutMessage", "DeleteMessage") and StatusText == "Success"
| extend queue = extract("^https://[^/]+/([a-z0-9-]+)/messages", 1, Uri)
| where queue endswith "-poison"
| summarize put = countif(OperationName == "PutMessage" and TimeGenerated < ago(15m)),
            taken = countif(OperationName == "DeleteMessage") by queue
| where put > taken
| project queue, waiting = put - taken
'''
    frequency: 'PT15M'
    window: 'P1D'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'queue'
  }
  {
    name: 'not-planned'
    what: 'The planner has not run for 26 hours: no DEK falls due, and nobody else would notice.'
    severity: 1
    query: '''
AppTraces
| where TimeGenerated > ago(26h)
| where tostring(parse_json(Message).event) == "planning started"
'''
    frequency: 'PT1H'
    window: 'P2D'
    operator: 'LessThan'
    threshold: 1
    dimension: ''
  }
  {
    name: 'not-scanned'
    what: 'The vaults were not scanned to their end for 26 hours: what expires is told by events alone, if they come.'
    severity: 2
    query: '''
AppTraces
| where TimeGenerated > ago(26h)
| where tostring(parse_json(Message).event) == "scanned the vaults"
'''
    frequency: 'PT1H'
    window: 'P2D'
    operator: 'LessThan'
    threshold: 1
    dimension: ''
  }
  {
    name: 'secrets-not-planned'
    what: 'The secrets were not planned to their end for an hour: none falls due, and no dual running ends.'
    severity: 1
    query: '''
AppTraces
| where tostring(parse_json(Message).event) == "planned secrets"
'''
    frequency: 'PT15M'
    window: 'PT1H'
    operator: 'LessThan'
    threshold: 1
    dimension: ''
  }
  {
    // The audit app signs one every minute. What happens meanwhile can be rewritten without a trace.
    name: 'not-checkpointed'
    what: 'No checkpoint of the audit trail was signed for 10 minutes: the audit app does not run, or may not sign.'
    severity: 1
    query: '''
AppTraces
| where tostring(parse_json(Message).event) == "signed a checkpoint"
'''
    frequency: 'PT5M'
    window: 'PT10M'
    operator: 'LessThan'
    threshold: 1
    dimension: ''
  }
  {
    name: 'outage'
    what: 'Many jobs are put back for later: vault or storage does not answer, or a role is missing.'
    severity: 1
    query: '''
AppTraces
| extend record = parse_json(Message)
| where tostring(record.event) == "job put back"
| project TimeGenerated, because = tostring(record.because)
'''
    frequency: 'PT15M'
    window: 'PT30M'
    operator: 'GreaterThan'
    threshold: 100
    dimension: ''
  }
  {
    name: 'kek-not-driven'
    what: 'A KEK rotation cannot be looked at: its rows cannot be right, or table, vault or a role is missing.'
    severity: 1
    query: '''
AppTraces
| extend record = parse_json(Message)
| where tostring(record.event) == "KEK not served"
| project TimeGenerated, kek = tostring(record.kek), because = tostring(record.because)
'''
    frequency: 'PT15M'
    window: 'PT30M'
    operator: 'GreaterThan'
    threshold: 10
    dimension: 'kek'
  }
  {
    // Sending shards their messages again is no progress: it is what happens when there is none.
    name: 'kek-no-progress'
    what: 'A KEK rotation walks over the shards and has not got any further for two hours.'
    severity: 1
    query: '''
let walking = dynamic(["planned", "sweeping", "scrubbing", "retiring", "closing", "rolling-back"]);
AppTraces
| extend record = parse_json(Message)
| extend event = tostring(record.event), run = tostring(record.run), phase = tostring(record.phase)
| where event in ("KEK rotation moved on", "shards sent", "rewrap batch")
| extend told = iff(event == "rewrap batch", datetime(null), TimeGenerated)
| extend got_further = event == "KEK rotation moved on"
    or (event == "rewrap batch" and (toint(record.tenants) > 0 or tostring(record.state) != "working"))
| summarize moved = maxif(TimeGenerated, got_further), heard = min(TimeGenerated), arg_max(told, phase) by run
| where phase in (walking) and coalesce(moved, heard) < ago(2h)
| project run, phase, moved
'''
    frequency: 'PT30M'
    window: 'P2D'
    operator: 'GreaterThan'
    threshold: 0
    dimension: 'run'
  }
  {
    name: 'kek-throttled'
    what: 'A vault throttles a KEK rotation again and again: production uses more of its quota than was left to it.'
    severity: 2
    query: '''
AppTraces
| extend record = parse_json(Message)
| where tostring(record.event) == "throttled by the vault"
| project TimeGenerated, vault = tostring(record.vault), pause_s = toreal(record.pause_s)
'''
    frequency: 'PT15M'
    window: 'PT30M'
    operator: 'GreaterThan'
    threshold: 20
    dimension: 'vault'
  }
]

resource rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alertRule in rules: {
    name: '${prefix}-rotation-${alertRule.name}'
    location: location
    kind: 'LogAlert'
    properties: {
      displayName: 'ATP key rotation: ${alertRule.name}'
      description: alertRule.what
      enabled: true
      severity: alertRule.severity
      scopes: [workspaceId]
      evaluationFrequency: alertRule.frequency
      windowSize: alertRule.window
      autoMitigate: true
      // The tables appear with their first record, which a new workspace does not have yet.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alertRule.query
            timeAggregation: 'Count'
            operator: alertRule.operator
            threshold: alertRule.threshold
            dimensions: empty(alertRule.dimension)
              ? []
              : [
                  {
                    name: alertRule.dimension
                    operator: 'Include'
                    values: ['*']
                  }
                ]
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: [actionGroupId]
      }
    }
  }
]

var lossMetrics = ['DeadLetteredCount', 'DroppedEventCount']

resource lostEvent 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for number in range(0, 2 * length(topicIds)): {
    name: '${prefix}-rotation-${lossMetrics[number % 2]}${number < 2 ? '' : '-${number / 2}'}'
    location: 'global'
    properties: {
      description: 'Event Grid gave up on an event of the vault: look into the container event-dead-letters.'
      enabled: true
      severity: 2
      scopes: [topicIds[number / 2]]
      evaluationFrequency: 'PT15M'
      windowSize: 'PT1H'
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            name: lossMetrics[number % 2]
            criterionType: 'StaticThresholdCriterion'
            metricName: lossMetrics[number % 2]
            metricNamespace: 'Microsoft.EventGrid/systemTopics'
            operator: 'GreaterThan'
            threshold: 0
            timeAggregation: 'Total'
          }
        ]
      }
      actions: [
        {
          actionGroupId: actionGroupId
        }
      ]
    }
  }
]
