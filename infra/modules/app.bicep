// A function app, on Flex Consumption: scales from nothing with its triggers, by itself. Both apps are this one, with the
// same package: what the one does, the other has disabled.

param name string
param location string
param identityId string
param identityClientId string

@description('Where the tables and queues are.')
param storageName string

@description('Where the host keeps its package, its locks and its keys.')
param hostStorageName string
param vaultUrl string

@description('Separated by commas; may be empty.')
param moreVaultUrls string

@description('URL of an RFC 3161 time-stamp authority; may be empty.')
param timestampUrl string

@description('Where alerts are sent, as references to secrets in the vault; each may be empty.')
param alertWebhook string
param alertTeams string
param alertPagerdutyKey string
param insightsConnection string

@description('The container of the evidence copy. Empty: this app has nothing to do with it.')
param evidenceUrl string
param auditOrigin string
param signingKeyName string

@description('The functions of the package that nothing triggers in this app.')
param disabledFunctions string[]

@description('Whether Event Grid may call the app.')
param takesEvents bool

@description('Empty: no virtual network.')
param subnetId string
param allowedAddresses string[]
param planSchedule string
param driveSchedule string
param logLevel string
param maxInstances int

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    // Event Grid delivers, and code is published, over the public address only; the restrictions below let in nobody else.
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: maxInstances
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${hostStorageName}.blob.${environment().suffixes.storage}/app-package'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      ftpsState: 'Disabled'
      remoteDebuggingEnabled: false
      ipSecurityRestrictionsDefaultAction: 'Deny'
      scmIpSecurityRestrictionsUseMain: true
      ipSecurityRestrictions: concat(
        takesEvents
          ? [
              {
                name: 'event-grid'
                priority: 100
                action: 'Allow'
                tag: 'ServiceTag'
                ipAddress: 'AzureEventGrid'
              }
            ]
          : [],
        map(allowedAddresses, (range, index) => {
          name: 'allowed-${index}'
          priority: 200 + index
          action: 'Allow'
          ipAddress: range
        })
      )
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: union(
      {
        ATP_VAULT_URL: vaultUrl
        ATP_MORE_VAULT_URLS: moreVaultUrls
        ATP_PLAN_SCHEDULE: planSchedule
        ATP_DRIVE_SCHEDULE: driveSchedule
        ATP_SECRETS_SCHEDULE: '0 */10 * * * *'
        ATP_SCAN_SCHEDULE: '0 0 4 * * *'
        ATP_WATCH_SCHEDULE: '0 */10 * * * *'
        ATP_CHECKPOINT_SCHEDULE: '0 * * * * *'
        ATP_RECONCILE_SCHEDULE: '0 30 3 * * *'
        ATP_ALERT_SCHEDULE: '0 * * * * *'
        ATP_LOG_LEVEL: logLevel
        ATP_CATALOG: 'rotation/catalog.toml'
        ATP_REDACTION: 'shared/redaction.toml'
        ATP_EVIDENCE_URL: evidenceUrl
        ATP_TSA_URL: timestampUrl
        ATP_ALERT_WEBHOOK: alertWebhook
        ATP_ALERT_TEAMS: alertTeams
        ATP_ALERT_PAGERDUTY_KEY: alertPagerdutyKey
        ATP_ALERT_PAGERDUTY_URL: 'https://events.pagerduty.com/v2/enqueue'
        ATP_AUDIT_ORIGIN: auditOrigin
        ATP_AUDIT_SIGNING_KEY: signingKeyName
        // As many jobs at once as host.json takes messages; Python would run fewer.
        PYTHON_THREADPOOL_THREAD_COUNT: '16'
        // Queues and tables with the app's identity: for the host, and read by shared/settings.py for our own clients.
        AzureWebJobsStorage__credential: 'managedidentity'
        AzureWebJobsStorage__clientId: identityClientId
        AzureWebJobsStorage__blobServiceUri: 'https://${hostStorageName}.blob.${environment().suffixes.storage}'
        AzureWebJobsStorage__queueServiceUri: 'https://${storageName}.queue.${environment().suffixes.storage}'
        AzureWebJobsStorage__tableServiceUri: 'https://${storageName}.table.${environment().suffixes.storage}'
        // For azure-identity in the app: this identity and no other way to a token.
        AZURE_CLIENT_ID: identityClientId
        AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
        APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnection
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD;ClientId=${identityClientId}'
      },
      // https://learn.microsoft.com/azure/azure-functions/disable-function
      toObject(disabledFunctions, name => 'AzureWebJobs.${name}.Disabled', name => 'true')
    )
  }

  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

output name string = app.name
