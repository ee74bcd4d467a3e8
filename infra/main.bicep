// Everything that ATP key rotation runs on, in one resource group. README.md says how to deploy it.
//
// Nothing here has a password: the storage accounts take no account keys, the vault takes no access policies, telemetry
// takes no instrumentation keys. Who may do what stands in modules/access.bicep, and nowhere else.

targetScope = 'resourceGroup'

@description('Begins every name. Lower-case letters and digits.')
@minLength(3)
@maxLength(11)
param prefix string

@description('Where everything is. The plan, the vault\'s HSM and zone redundancy must be available there.')
param location string = resourceGroup().location

@description('Storage, vault and their traffic stay in a virtual network of their own. Turn off for a trial only.')
param privateNetwork bool = true

@description('Address ranges (CIDR) that may publish code and call the app over HTTP. Event Grid always may.')
param allowedAddresses string[] = []

@description('Set once the code is published: an Event Grid subscription can only be made to a function that exists.')
param functionsPublished bool = false

@description('When the planner runs, NCRONTAB in UTC: {second} {minute} {hour} {day} {month} {day-of-week}.')
param planSchedule string = '0 0 2 * * *'

@description('When KEK rotations are looked at, likewise. Between the steps of one lies no more than this.')
param driveSchedule string = '0 * * * * *'

@description('URL of an RFC 3161 time-stamp authority, which says once an hour when the audit trail was signed; empty for none.')
param timestampUrl string = ''

@description('Name of the secret in the vault that holds a URL which takes alerts as JSON; empty for none. Secret first, name then.')
param alertWebhookSecret string = ''

@description('The same for the URL of a Microsoft Teams workflow.')
param alertTeamsSecret string = ''

@description('The same for the routing key of a PagerDuty service.')
param alertPagerdutySecret string = ''

@description('The alert rules need INFO at least: they look for what the app says when all is well, too.')
@allowed(['DEBUG', 'INFO'])
param logLevel string = 'INFO'

@description('The keys of kind "kek" in rotation/catalog.toml.')
param keks string[] = ['master-kek']

@description('The secrets of the catalog that the app rotates, by their names in the first vault.')
param secrets string[] = [
  'azure-sql-connection'
  'postgresql-connection'
  'cosmos-db-connection'
  'storage-connection'
  'service-bus-connection'
  'partner-api-key'
  'webhook-secret'
  'azure-sql-admin'
  'postgresql-admin'
  'partner-api-admin'
]

@description('Names of further vaults, made with a first version of each KEK: where KEKs come from or may be rotated to.')
param moreVaults string[] = []

@description('Bits of a KEK. A larger one unwraps fewer DEKs per second: an HSM vault does 200, 50 or 25 a second.')
@allowed([2048, 3072, 4096])
param kekBits int = 3072

@description('When the first version of each KEK expires, in seconds since 1970: two years after the first deployment.')
param kekExpires int = dateTimeToEpoch(dateTimeAdd(utcNow(), 'P2Y'))

@description('GZRS keeps a copy in the paired region, some minutes behind; ZRS where data must not leave the region.')
@allowed(['Standard_GZRS', 'Standard_ZRS'])
param replication string = 'Standard_GZRS'

@description('Object ids of the managed identities of the ATP services that encrypt and decrypt.')
param services string[] = []

@description('Object ids of the Entra groups whose members operate key rotation from the command line.')
param operators string[] = []

@description('Object ids of the Entra groups whose members check the audit trail against its evidence.')
param auditors string[] = []

@description('The name in signed checkpoints, unique among those that an auditor sees. Never change it.')
param auditOrigin string = '${prefix}-audit'

@description('Set once the policy on the evidence copy is locked: modules/evidence.bicep says how, and what that means.')
param evidenceLocked bool = false

@description('Who is told of alerts.')
param alertAddresses string[]

@description('For how many days logs can be searched, 30 to 730.')
@minValue(30)
@maxValue(730)
param logDays int = 730

@description('The largest number of instances that the plan scales out to.')
@minValue(40)
@maxValue(1000)
param maxInstances int = 40

var unique = take(uniqueString(resourceGroup().id, prefix), 8)
var names = {
  app: '${prefix}-rotation-${unique}'
  auditApp: '${prefix}-audit-${unique}'
  auditHost: '${prefix}aud${unique}'
  evidence: '${prefix}evi${unique}'
  storage: '${prefix}rot${unique}'
  vault: '${prefix}-kv-${unique}'
}
var vaults = concat([names.vault], moreVaults)
var signingKeyName = 'audit-signing'
var alertSecrets = filter([alertWebhookSecret, alertTeamsSecret, alertPagerdutySecret], name => !empty(name))

// https://learn.microsoft.com/azure/app-service/app-service-key-vault-references
func reference(vault string, secret string) string =>
  empty(secret) ? '' : '@Microsoft.KeyVault(VaultName=${vault};SecretName=${secret})'

// Which app does what. One package holds all of it; each app has the functions of the other one disabled, and neither has
// the roles for them.
var rotationFunctions = [
  'plan_daily'
  'drive_kek_rotations'
  'plan_shard'
  'rotation_job'
  'kek_order'
  'rewrap_batch'
  'plan_secrets'
  'scan_vaults'
  'secret_job'
  'plan_shard_poison'
  'rotation_job_poison'
  'kek_order_poison'
  'rewrap_batch_poison'
  'secret_job_poison'
  'key_vault_event'
  'key_vault_cloud_event'
  'watch_intents'
  'deliver_alerts'
  'health'
]
var auditFunctions = [
  'checkpoint_audit_trail'
  'reconcile_evidence'
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  // Its own resource, so that its roles are there before the app first starts.
  name: '${prefix}-rotation'
  location: location
}

resource auditIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-audit'
  location: location
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    prefix: prefix
    location: location
    logDays: logDays
    alertAddresses: alertAddresses
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'network'
  params: {
    prefix: prefix
    location: location
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: names.storage
    location: location
    replication: replication
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: privateNetwork ? network!.outputs.endpointSubnetId : ''
    networkId: privateNetwork ? network!.outputs.networkId : ''
  }
}

// One after the other: they share the private DNS zone for blobs.
module evidence 'modules/evidence.bicep' = {
  name: 'evidence'
  params: {
    name: names.evidence
    location: location
    replication: replication
    locked: evidenceLocked
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: privateNetwork ? network!.outputs.endpointSubnetId : ''
    networkId: privateNetwork ? network!.outputs.networkId : ''
  }
  dependsOn: [
    storage
  ]
}

module auditHost 'modules/audit-host.bicep' = {
  name: 'audit-host'
  params: {
    name: names.auditHost
    location: location
    replication: replication
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: privateNetwork ? network!.outputs.endpointSubnetId : ''
    networkId: privateNetwork ? network!.outputs.networkId : ''
  }
  dependsOn: [
    evidence
  ]
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: names.vault
    location: location
    keks: keks
    kekBits: kekBits
    kekExpires: kekExpires
    signingKeyName: signingKeyName
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: privateNetwork ? network!.outputs.endpointSubnetId : ''
    networkId: privateNetwork ? network!.outputs.networkId : ''
  }
}

// One after the other: they share the private DNS zone.
@batchSize(1)
module moreVault 'modules/vault.bicep' = [
  for name in moreVaults: {
    name: 'vault-${name}'
    params: {
      name: name
      location: location
      keks: keks
      kekBits: kekBits
      kekExpires: kekExpires
      signingKeyName: ''
      workspaceId: monitoring.outputs.workspaceId
      endpointSubnetId: privateNetwork ? network!.outputs.endpointSubnetId : ''
      networkId: privateNetwork ? network!.outputs.networkId : ''
    }
    dependsOn: [
      vault
    ]
  }
]

module access 'modules/access.bicep' = {
  name: 'access'
  params: {
    storageName: storage.outputs.name
    vaults: vaults
    insightsName: monitoring.outputs.insightsName
    keks: keks
    secrets: secrets
    appPrincipalId: identity.properties.principalId
    services: services
    operators: operators
    evidenceStorageName: evidence.outputs.name
    evidenceContainerName: evidence.outputs.containerName
    auditHostStorageName: auditHost.outputs.name
    signingKeyName: signingKeyName
    alertSecrets: alertSecrets
    auditPrincipalId: auditIdentity.properties.principalId
    auditors: auditors
  }
  dependsOn: [
    vault
    moreVault
  ]
}

module app 'modules/app.bicep' = {
  name: 'app'
  params: {
    name: names.app
    location: location
    identityId: identity.id
    identityClientId: identity.properties.clientId
    storageName: storage.outputs.name
    hostStorageName: storage.outputs.name
    vaultUrl: vault.outputs.url
    moreVaultUrls: join(map(moreVaults, name => 'https://${name}${environment().suffixes.keyvaultDns}'), ',')
    insightsConnection: monitoring.outputs.insightsConnection
    evidenceUrl: ''
    auditOrigin: auditOrigin
    signingKeyName: signingKeyName
    timestampUrl: ''
    alertWebhook: reference(names.vault, alertWebhookSecret)
    alertTeams: reference(names.vault, alertTeamsSecret)
    alertPagerdutyKey: reference(names.vault, alertPagerdutySecret)
    disabledFunctions: auditFunctions
    takesEvents: true
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    allowedAddresses: allowedAddresses
    planSchedule: planSchedule
    driveSchedule: driveSchedule
    logLevel: logLevel
    maxInstances: maxInstances
  }
  dependsOn: [
    access
  ]
}

module auditApp 'modules/app.bicep' = {
  name: 'audit-app'
  params: {
    name: names.auditApp
    location: location
    identityId: auditIdentity.id
    identityClientId: auditIdentity.properties.clientId
    storageName: storage.outputs.name
    hostStorageName: auditHost.outputs.name
    vaultUrl: vault.outputs.url
    moreVaultUrls: ''
    insightsConnection: monitoring.outputs.insightsConnection
    evidenceUrl: evidence.outputs.url
    auditOrigin: auditOrigin
    signingKeyName: signingKeyName
    timestampUrl: timestampUrl
    alertWebhook: ''
    alertTeams: ''
    alertPagerdutyKey: ''
    disabledFunctions: rotationFunctions
    takesEvents: false
    subnetId: privateNetwork ? network!.outputs.auditSubnetId : ''
    allowedAddresses: allowedAddresses
    planSchedule: planSchedule
    driveSchedule: driveSchedule
    logLevel: logLevel
    maxInstances: maxInstances
  }
  dependsOn: [
    access
  ]
}

module events 'modules/events.bicep' = [
  for (name, index) in vaults: {
    name: 'events-${index}'
    params: {
      name: index == 0 ? '${prefix}-vault-events' : '${name}-events'
      location: location
      vaultName: name
      storageName: storage.outputs.name
      appName: app.outputs.name
      subscribe: functionsPublished
    }
    dependsOn: [
      vault
      moreVault
    ]
  }
]

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    prefix: prefix
    location: location
    workspaceId: monitoring.outputs.workspaceId
    actionGroupId: monitoring.outputs.actionGroupId
    topicIds: [for index in range(0, length(vaults)): events[index].outputs.topicId]
  }
}

output functionApp string = app.outputs.name
output auditApp string = auditApp.outputs.name
output evidenceAccount string = evidence.outputs.name
output evidenceUrl string = evidence.outputs.url
output vaultUrl string = vault.outputs.url
output tableUrl string = storage.outputs.tableUrl
output queueUrl string = storage.outputs.queueUrl
