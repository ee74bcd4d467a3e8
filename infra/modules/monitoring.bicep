// Where logs go, and who hears of alerts.

param prefix string
param location string
param logDays int
param alertAddresses string[]

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: '${prefix}-logs'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: logDays
    features: {
      disableLocalAuth: true
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: '${prefix}-insights'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: '${prefix}-rotation-alerts'
  location: 'global'
  properties: {
    enabled: true
    groupShortName: take('${prefix}-keys', 12)
    emailReceivers: [
      for address in alertAddresses: {
        name: address
        emailAddress: address
        useCommonAlertSchema: true
      }
    ]
  }
}

output workspaceId string = workspace.id
output insightsName string = insights.name
output insightsConnection string = insights.properties.ConnectionString
output actionGroupId string = people.id
